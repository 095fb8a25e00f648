"""Labels that follow a video: against the full affinity in float64, on clips that stand still or move, and how much is held."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tips_bench.features import propagation
from tips_bench.features.affinity import unit
from tips_bench.features.propagation import Propagation, PropagationOptions, ids_of, on_grid, one_hot, stretched

PATCH = 4
ROUNDING = 1e-6  # of labels in float32


def options(**changed) -> PropagationOptions:
    return PropagationOptions(
        **{
            **{"type": "propagation", "context": 2, "radius": 2, "window": "square", "top_k": 3, "temperature": 0.1, "upsample": "input"},
            **changed,
        }
    )


def follow(chosen: PropagationOptions, features_ThwD: torch.Tensor, labels_hwC: torch.Tensor) -> list[torch.Tensor]:
    carried, found = Propagation(chosen), []
    carried.give(features_ThwD[0], labels_hwC)
    for features_hwD in features_ThwD[1:]:
        found.append(carried.follow(features_hwD))
        carried.keep(features_hwD, found[-1])
    return found


def brute(chosen: PropagationOptions, features_ThwD: torch.Tensor, labels_hwC: torch.Tensor) -> list[np.ndarray]:
    """With the whole matrix of cosines, in float64."""
    features = features_ThwD.double().numpy()
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    height, width = features.shape[1:3]
    place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1).reshape(-1, 2)
    apart = np.abs(place[:, None] - place)
    near = (apart**2).sum(-1) <= chosen.radius**2 if chosen.window == "circle" else apart.max(-1) <= chosen.radius
    labels = [labels_hwC.double().numpy().reshape(len(place), -1)]
    for frame in range(1, len(features)):
        context = [0, *range(max(1, frame - chosen.context), frame)]
        cosines = np.concatenate([features[frame].reshape(len(place), -1) @ features[one].reshape(len(place), -1).T for one in context], 1)
        cosines = np.where(np.tile(near, len(context)), cosines, -np.inf)
        last = np.sort(cosines, 1)[:, ::-1][:, min(chosen.top_k, cosines.shape[1]) - 1, None]
        weights = np.where(cosines >= last, np.exp(cosines / chosen.temperature), 0)
        labels.append(weights / weights.sum(1, keepdims=True) @ np.concatenate([labels[one] for one in context]))
    return [one.reshape(height, width, -1) for one in labels[1:]]


def ids_in_float64(labels_hwC: np.ndarray, chosen: PropagationOptions, inner: tuple[int, int], frame: tuple[int, int]):
    """ids_HW, and where they are sure: the greatest stretched label is above the next by more than rounding explains.

    Half way between two patches labels can be equal whatever their values are: where each has its least value at one of the patches and
    its greatest at the other, each is stretched to 0.5.
    """
    labels_1CHW = torch.from_numpy(labels_hwC).permute(2, 0, 1)[None]
    if chosen.upsample != "nearest":
        size = inner if chosen.upsample == "input" else frame
        labels_1CHW = torch.nn.functional.interpolate(labels_1CHW, size, mode="bilinear", align_corners=False)
    labels_HWC = labels_1CHW[0].permute(1, 2, 0).numpy()
    span_C = np.ptp(labels_HWC, axis=(0, 1))
    if span_C.min() < ROUNDING:  # a label that is the same everywhere has a test of its own
        return np.zeros(frame, np.uint8), np.zeros(frame, bool)
    stretched_HWC = (labels_HWC - labels_HWC.min((0, 1))) / span_C
    next_HW, greatest_HW = np.sort(stretched_HWC, -1)[..., -2:].transpose(2, 0, 1)
    found = stretched_HWC.argmax(-1).astype(np.uint8), greatest_HW - next_HW > 4 * ROUNDING / span_C.min()
    if chosen.upsample == "nearest":
        rows, columns = (np.arange(new) * old // new for new, old in zip(frame, labels_HWC.shape, strict=False))
        return tuple(one[rows[:, None], columns] for one in found)
    return tuple(on_grid(one.astype(np.uint8), frame).astype(one.dtype) for one in found)


@settings(max_examples=30, deadline=None)
@example(grid=(2, 3), context=1, radius=2, window="square", top_k=2, upsample="bilinear", seed=439)  # three labels of 0.5
@given(
    grid=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    context=st.integers(0, 4),
    radius=st.sampled_from([1, 2, 2.5, 50]),
    window=st.sampled_from(["square", "circle"]),
    top_k=st.integers(1, 6),
    upsample=st.sampled_from(["input", "nearest", "bilinear"]),
    seed=st.integers(0, 999),
)
def test_the_streamed_way_gives_the_labels_and_masks_of_the_full_affinity(grid, context, radius, window, top_k, upsample, seed) -> None:
    draw = torch.Generator().manual_seed(seed)
    features_ThwD = torch.randn(7, *grid, 5, generator=draw)
    labels_hwC = one_hot(torch.randint(0, 3, grid, generator=draw).numpy(), 3)
    chosen = options(context=context, radius=radius, window=window, top_k=top_k, upsample=upsample)
    inner, frame = (grid[0] * PATCH, grid[1] * PATCH), (grid[0] * 5 + 1, grid[1] * 5 + 2)
    pairs = zip(follow(chosen, features_ThwD, labels_hwC), brute(chosen, features_ThwD, labels_hwC), strict=True)
    for streamed_hwC, whole_hwC in pairs:
        np.testing.assert_allclose(streamed_hwC, whole_hwC, rtol=0, atol=1e-5)
        own_HW = ids_of(streamed_hwC, chosen, inner, frame)
        theirs_HW, sure_HW = ids_in_float64(whole_hwC, chosen, inner, frame)
        np.testing.assert_array_equal(own_HW[sure_HW], theirs_HW[sure_HW])


@pytest.mark.parametrize("window", ["square", "circle"])
def test_a_clip_that_stands_still_keeps_its_labels(window: str) -> None:
    torch.manual_seed(0)
    features_ThwD = torch.randn(1, 6, 9, 16).expand(12, 6, 9, 16)
    labels_hwC = one_hot(np.arange(54).reshape(6, 9) % 4, 4)
    for found_hwC in follow(options(temperature=0.01, top_k=2), features_ThwD, labels_hwC):
        assert torch.equal(found_hwC.argmax(-1), labels_hwC.argmax(-1))


def test_a_clip_that_moves_by_whole_patches_carries_its_labels_along() -> None:
    torch.manual_seed(1)
    world, labels = torch.randn(6, 30, 16), np.random.default_rng(1).integers(0, 3, (6, 30))
    features_ThwD = torch.stack([world[:, frame : frame + 10] for frame in range(12)])
    found = follow(options(temperature=0.01, top_k=1, context=3), features_ThwD, one_hot(labels[:, :10], 3))
    for frame, labels_hwC in enumerate(found, 1):
        inside = 10 - frame  # columns that the first frame shows, too
        if inside > 0:
            np.testing.assert_array_equal(labels_hwC.argmax(-1)[:, :inside], labels[:, frame:10])


def test_only_the_frames_that_may_be_looked_at_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref] = []

    def watched(features: torch.Tensor) -> torch.Tensor:
        unit_features = unit(features)
        made.append(weakref.ref(unit_features))
        return unit_features

    monkeypatch.setattr(propagation, "unit", watched)
    carried = Propagation(options(context=3))
    carried.give(torch.randn(3, 3, 4), torch.full((3, 3, 2), 0.5))
    for _ in range(40):
        features_hwD = torch.randn(3, 3, 4)
        carried.keep(features_hwD, carried.follow(features_hwD))
    gc.collect()
    held = [number for number, one in enumerate(made) if one() is not None]
    assert len(held) == 4 and held[0] == 0, "the first and the last three"


def test_a_label_that_is_the_same_everywhere_is_as_the_source_has_it() -> None:
    labels_HWC = torch.stack([torch.tensor([[0.2, 0.6]]), torch.full((1, 2), 0.4), torch.zeros(1, 2)], -1)
    assert stretched(labels_HWC, 1.0).tolist() == [[[0, 1, 0], [1, 1, 0]]]
    assert stretched(labels_HWC, 0.0).tolist() == [[[0, 0, 0], [1, 0, 0]]]


def test_ids_of_patches_are_those_in_their_middle() -> None:
    ids_HW = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((4, 4), np.uint8))
    np.testing.assert_array_equal(on_grid(ids_HW, (2, 3)), np.arange(6).reshape(2, 3))
