"""One object of an image: what LOST and TokenCut find where the answer is known, and how a box is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.adapters.object_discovery import DiscoveryAdapter, in_pixels, to_draw
from tips_bench.cards import load_card
from tips_bench.data.base import BoxSample
from tips_bench.errors import UserError
from tips_bench.metrics.discovery import DiscoveryCounts, count, is_correct, overlap
from tips_bench.pictures.boxes import RIGHT, WRONG, box_panel
from tips_bench.probes.training_free import discovery
from tips_bench.probes.training_free.discovery import lost, tokencut

GRID = 14, 18


def blocks(box: tuple[int, int, int, int], noise: float = 0.0) -> torch.Tensor:
    """Features [h,w,D] of an object in a box (left, top, right, bottom in patches) before a background."""
    left, top, right, bottom = box
    generator = torch.Generator().manual_seed(0)
    features_hwD = noise * torch.randn(*GRID, 8, generator=generator)
    features_hwD[..., 0] += 1
    features_hwD[top:bottom, left:right, 0] -= 1
    features_hwD[top:bottom, left:right, 1] += 1
    return features_hwD


BOXES = st.tuples(st.integers(0, 10), st.integers(0, 7), st.integers(2, 7), st.integers(2, 6)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(BOXES, st.booleans())
@settings(max_examples=30, deadline=None)
def test_two_blocks_of_patches_give_the_box_of_the_smaller(box: tuple[int, int, int, int], noisy: bool) -> None:
    features_hwD = blocks(box, 0.05 if noisy else 0.0)
    assert tuple(tokencut(features_hwD, 0.2, 1e-5).box_4) == box
    features_hwD = blocks(box)
    features_hwD[..., :2] -= 0.1  # products across the two are then below zero, and those inside above
    assert tuple(lost(features_hwD, 100).box_4) == box


@given(st.integers(0, 5), st.sampled_from([2.0, 0.5]))
@settings(max_examples=10, deadline=None)
def test_a_greater_scale_of_all_features_changes_nothing(seed: int, scale: float) -> None:
    features_hwD = torch.randn(*GRID, 8, generator=torch.Generator().manual_seed(seed))
    for find in (lambda x: lost(x, 20), lambda x: tokencut(x, 0.2, 1e-5)):
        one, other = find(features_hwD), find(scale * features_hwD)
        np.testing.assert_array_equal(one.mask_hw, other.mask_hw)
        assert one.mask_hw[one.seed]


def test_a_mirrored_image_has_the_mirrored_object() -> None:
    features_hwD = blocks((2, 3, 7, 9), noise=0.3)
    for find in (lambda x: lost(x, 20), lambda x: tokencut(x, 0.2, 1e-5)):
        np.testing.assert_array_equal(find(features_hwD).mask_hw[:, ::-1], find(features_hwD.flip(1)).mask_hw)


def test_blocks_of_rows_change_no_degree(monkeypatch: pytest.MonkeyPatch) -> None:
    features_hwD = torch.randn(*GRID, 8, generator=torch.Generator().manual_seed(3))
    whole = lost(features_hwD, 20)
    monkeypatch.setattr(discovery, "ROWS", 7)
    np.testing.assert_array_equal(lost(features_hwD, 20).map_hw, whole.map_hw)


def test_a_search_that_does_not_settle_ends_in_a_full_decomposition_of_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    features_hwD = torch.randn(*GRID, 8, generator=torch.Generator().manual_seed(4))
    monkeypatch.setattr(discovery, "SMALL", 0)
    settled = tokencut(features_hwD, 0.2, 1e-5)
    monkeypatch.setattr(discovery, "RESTARTS", 1)
    monkeypatch.setattr(discovery, "VECTORS", 3)
    other = tokencut(features_hwD, 0.2, 1e-5)
    assert other.full and not settled.full
    np.testing.assert_array_equal(settled.mask_hw, other.mask_hw)


def test_patches_that_are_all_similar_or_none_leave_the_whole_image() -> None:
    for features_hwD in (torch.ones(18, 20, 4), torch.zeros(3, 4, 4), torch.eye(12).unflatten(0, (3, 4))):
        found = tokencut(features_hwD, 0.2, 1e-5)
        assert found.uncut and found.mask_hw.all() and tuple(found.box_4) == (0, 0, *features_hwD.shape[1::-1])


def test_one_patch_alone_and_features_of_zero_have_a_box() -> None:
    for features_hwD in (torch.ones(1, 1, 4), torch.zeros(3, 4, 4)):
        assert tuple(lost(features_hwD, 100).box_4) == (0, 0, 1, 1)
        assert tokencut(features_hwD, 0.2, 1e-5).uncut


def test_a_box_ends_with_the_image_and_follows_its_size() -> None:
    np.testing.assert_array_equal(in_pixels(np.array([0, 1, 4, 3]), 16, (45, 60), (45, 60)), [0, 16, 60, 45])
    np.testing.assert_array_equal(in_pixels(np.array([0, 1, 4, 3]), 16, (45, 60), (90, 120)), [0, 32, 120, 90])


def test_half_of_the_union_is_enough() -> None:
    true_N4 = np.array([[0, 0, 10, 10], [50, 50, 60, 60]])
    assert is_correct(np.array([0, 0, 10, 20]), true_N4) and not is_correct(np.array([0, 0, 10, 21]), true_N4)
    np.testing.assert_array_equal(overlap(np.array([55, 55, 70, 60]), true_N4)[0], [0, 25])
    assert not is_correct(np.array([0, 0, 10, 10]), np.zeros((0, 4)))


def test_corloc_is_the_share_of_images_in_any_order_and_shards() -> None:
    rng, parts = np.random.default_rng(0), [DiscoveryCounts(), DiscoveryCounts()]
    correct = []
    for image in rng.permutation(40).tolist():
        box_4, true_N4 = np.array([0, 0, 10, 10]), np.array([[0, 0, 10, 3 + image]])
        parts[image % 2].update(f"{image:02}", f"{image:02}", count(box_4, true_N4))
        correct.append(is_correct(box_4, true_N4))
    parts[0].merge(parts[1])
    assert parts[0].compute() == {"CorLoc": pytest.approx(100 * np.mean(correct), abs=1e-9)}
    assert np.isnan(DiscoveryCounts().compute()["CorLoc"])
    with pytest.raises(UserError, match="contradict"):
        parts[0].update("more", "more", np.array([2, 1]))


def test_pictures_are_green_where_the_box_is_correct_and_red_where_not() -> None:
    map_hw = np.random.default_rng(0).random((5, 6))
    sample = BoxSample("a", "a", np.zeros((70, 90, 3), np.uint8), np.array([[0, 0, 40, 44]]), ("chair",))
    found = discovery.Found(np.array([0, 0, 1, 1]), map_hw > 0.5, (1, 2), map_hw)
    for box_4, color in (([0, 0, 40, 40], RIGHT), ([50, 30, 90, 70], WRONG)):
        panel_HW3 = box_panel(to_draw(sample, found, np.array(box_4)))
        assert (np.abs(panel_HW3.astype(int) - color).max(-1) < 40).sum() > 50


def test_a_wrong_method_and_another_padding_are_user_errors() -> None:
    task = load_card("task", "rooms-discovery")
    for override, fault in (
        ("probe.type=cut", "there is no method of object discovery"),
        ("image.fit=pad", "image.fit = pad"),
        ("probe.weak=2", "weak"),
    ):
        with pytest.raises(UserError, match=fault):
            DiscoveryAdapter(task, load_card("protocol", "tokencut", [override]))
