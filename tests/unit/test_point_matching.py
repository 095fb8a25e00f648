"""Points and views matched against brute force on whole enlarged maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tips_bench.features.affinity import unit
from tips_bench.features.patch_maps import Grid
from tips_bench.features.point_matching import find_points, read_points
from tips_bench.features.view_matching import match_views

SIZE = 48, 64
PLAIN = Grid((6, 8), SIZE, SIZE, (0, 0), SIZE)


def random_map(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("reading", "answer"), [("pixel", "pixel"), ("patch", "center"), ("nearest", "corner")])
def test_points_of_the_same_image_are_found_where_they_are(reading, answer):
    map_hwD = random_map(0, 6, 8, 32)
    x, y = np.meshgrid(np.arange(8) * 8 + 4, np.arange(6) * 8 + 4)
    points_Q2 = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    if answer == "corner":
        points_Q2 -= 4
    found_Q2 = find_points(read_points(map_hwD, points_Q2, PLAIN, reading), map_hwD, PLAIN, answer)
    assert np.abs(found_Q2 - points_Q2).max() <= (1 if answer == "pixel" else 1e-9)


@pytest.mark.parametrize("answer", ["pixel", "corner", "center", "soft"])
def test_a_shift_by_one_patch_moves_the_answer_by_image_over_grid(answer):
    wide_hwD = random_map(1, 6, 9, 64)
    point_12 = np.array([[29.0, 20.0]])
    query_1D = read_points(wide_hwD[:, :8], point_12, PLAIN, "patch")
    places = [find_points(query_1D, map_hwD, PLAIN, answer) for map_hwD in (wide_hwD[:, :8], wide_hwD[:, 1:])]
    assert places[0] - places[1] == pytest.approx(np.array([[64 / 8, 0.0]]), abs=0.4 if answer == "soft" else 1e-9)


@pytest.mark.parametrize("padded", [False, True])
def test_the_best_pixel_is_that_of_the_whole_enlarged_map(padded):
    grid = Grid((6, 8), (37, 51), (44, 60), (1, 2), (48, 64)) if padded else Grid((6, 8), (37, 51), SIZE, (0, 0), SIZE)
    map_hwD, points_Q2 = random_map(2, 6, 8, 16), np.array([[3, 4], [50, 36], [20, 11]])
    whole_1DHW = map_hwD.permute(2, 0, 1)[None].double()
    if padded:
        whole_1DHW = F.interpolate(whole_1DHW, (48, 64), mode="bilinear")[..., 1:45, 2:62]
    whole_DHW = F.interpolate(whole_1DHW, (37, 51), mode="bilinear")[0]
    queries_QD = F.normalize(random_map(3, 3, 16).double(), dim=1)
    best_Q = (queries_QD @ F.normalize(whole_DHW.flatten(1), dim=0)).argmax(1).numpy()
    found_Q2 = find_points(queries_QD.float(), map_hwD, grid, "pixel")
    assert found_Q2.tolist() == np.stack([best_Q % 51, best_Q // 51], 1).tolist()
    if not padded:
        theirs_QD = F.normalize(whole_DHW[:, points_Q2[:, 1], points_Q2[:, 0]].T, dim=1)
        assert torch.allclose(read_points(map_hwD, points_Q2.astype(np.float64), grid, "pixel").double(), theirs_QD, atol=1e-5)


def test_places_go_to_shares_of_a_padded_map_and_back():
    grid = Grid((4, 5), (30, 40), (60, 80), (2, 0), (64, 80))
    points_K2 = np.random.default_rng(0).uniform(0, 30, (7, 2))
    shares_K2 = grid.shares(points_K2)
    assert shares_K2 == pytest.approx((points_K2 * 2 + [0, 2]) / [80, 64]) and grid.pixels(shares_K2) == pytest.approx(points_K2)


def brute_force(first_hwD, second_hwD, known_2HW, k, mode, surest="ratio"):
    """Places of both views and weights, from all cosines at once."""
    size = known_2HW.shape[1:]
    options = {} if mode == "nearest" else {"align_corners": False}
    flat = [F.interpolate(m.permute(2, 0, 1)[None], size, mode=mode, **options)[0].flatten(1).T for m in (first_hwD, second_hwD)]
    places = [known_HW.flatten().nonzero()[:, 0] for known_HW in known_2HW]
    a, b = (unit(features[place]) for features, place in zip(flat, places, strict=True))
    near, rows = (a @ b.T).topk(2, 1)
    distance = (1 - near).clamp(min=1e-9)
    by = near[:, 0] if surest == "cosine" else 1 - distance[:, 0] / distance[:, 1]
    weights, order = by.sort(descending=True, stable=True)
    back = (b @ a.T).argmax(1)
    mutual = back[rows[:, 0]] == torch.arange(len(a))
    return places[0][order][:k], places[1][rows[order, 0]][:k], weights[:k], mutual[order]


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_views_are_matched_as_by_all_cosines_at_once(mode, share):
    maps = [random_map(seed, 5, 7, 20).double() for seed in (4, 5)]
    known_2HW = torch.rand(2, 22, 30, generator=torch.Generator().manual_seed(6)) < share
    if mode == "bilinear":  # beyond the centers of the outermost patches features are equal, and any of them is the nearest
        known_2HW[:, [0, 1, 2, -3, -2, -1]] = known_2HW[:, :, [0, 1, 2, -3, -2, -1]] = False
    found = match_views(*maps, known_2HW, 40, kind=mode)
    first_k, second_k, weights_k, _ = brute_force(*maps, known_2HW, 40, mode)
    sure = int((weights_k > 1e-3).sum())
    assert sure > 20 and torch.equal(found.first_k[:sure], first_k[:sure]) and torch.equal(found.second_k[:sure], second_k[:sure])
    assert torch.allclose(found.weights_k, weights_k, atol=1e-5)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_matches_of_greatest_cosine_are_those_of_all_cosines_at_once(share):
    maps = [random_map(seed, 5, 7, 20).double() for seed in (4, 5)]
    known_2HW = torch.rand(2, 22, 30, generator=torch.Generator().manual_seed(6)) < share
    found = match_views(*maps, known_2HW, 40, surest="cosine")
    first_k, second_k, cosines_k, _ = brute_force(*maps, known_2HW, 40, "bicubic", "cosine")
    assert torch.equal(found.first_k, first_k) and torch.equal(found.second_k, second_k)
    assert torch.allclose(found.weights_k, cosines_k, rtol=0, atol=1e-5)  # weights of enlarging are of single precision
    by_ratio = match_views(*maps, known_2HW, 40)
    assert set(found.first_k.tolist()) != set(by_ratio.first_k.tolist())


def test_one_point_is_enough_for_a_match_of_greatest_cosine():
    known_2HW = torch.zeros(2, 4, 4, dtype=torch.bool)
    known_2HW[0, 1:3] = known_2HW[1, 2, 3] = True
    found = match_views(random_map(0, 2, 2, 4), random_map(1, 2, 2, 4), known_2HW, 5, surest="cosine")
    assert len(found.first_k) == 5 and set(found.second_k.tolist()) == {11}


def test_both_ways_keeps_points_that_are_each_others_nearest():
    maps, known_2HW = [random_map(seed, 4, 4, 20).double() for seed in (7, 8)], torch.ones(2, 16, 16, dtype=torch.bool)
    first_k, second_k, weights_k, mutual_N = brute_force(*maps, known_2HW, 256, "bicubic")
    found = match_views(*maps, known_2HW, 256, both_ways=True)
    assert 0 < len(found.first_k) < 256
    assert set(found.first_k.tolist()) == set(first_k[mutual_N].tolist())
    assert set(zip(found.first_k.tolist(), found.second_k.tolist(), strict=True)) == set(
        zip(first_k[mutual_N].tolist(), second_k[mutual_N].tolist(), strict=True)
    )
    assert (found.weights_k.diff() <= 0).all() and weights_k.max() == pytest.approx(float(found.weights_k.max()), abs=1e-5)


def test_a_view_matched_with_itself_matches_each_point_with_itself():
    map_hwD, known_HW = random_map(9, 8, 8, 32), torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) < 0.5
    found = match_views(map_hwD, map_hwD, torch.stack([known_HW, known_HW]), 100)
    assert torch.equal(found.first_k, found.second_k) and len(found.first_k) == 100


@pytest.mark.parametrize(("first", "second"), [(0, 9), (5, 1), (5, 0)])
def test_views_of_too_few_points_have_no_matches(first, second):
    known_2HW = torch.zeros(2, 4, 4, dtype=torch.bool)
    known_2HW[0].view(-1)[:first] = known_2HW[1].view(-1)[:second] = True
    assert len(match_views(random_map(0, 2, 2, 4), random_map(1, 2, 2, 4), known_2HW, 10).first_k) == 0
