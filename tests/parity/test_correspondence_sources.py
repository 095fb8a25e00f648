"""Matches, errors and averages of the correspondence protocols against numbers of the sources' own code (tests/parity/data/README.md)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tips_bench.adapters.keypoint_matching import KeypointAdapter, OnCanvas
from tips_bench.adapters.view_matching import ViewAdapter, within
from tips_bench.cards import load_card
from tips_bench.data.camera_geometry import Intrinsics, points
from tips_bench.data.pairs import KeypointPair, ViewPair
from tips_bench.data.view_geometry import degrees_of, match_errors
from tips_bench.features.affinity import unit
from tips_bench.features.patch_maps import Grid, without
from tips_bench.features.point_matching import find_points, read_points
from tips_bench.features.view_matching import match_views
from tips_bench.metrics.difficulty import DifficultyCounts
from tips_bench.metrics.matches import ALPHAS, KeypointCounts, ViewCounts, count, shares

GOLDEN = Path(__file__).parent / "data" / "correspondence.npz"


@pytest.fixture(scope="module")
def gold() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as data:
        return dict(data)


class Sizes:
    """Images of known size, without pixels."""

    def __init__(self, sizes: np.ndarray) -> None:
        self.sizes = [(int(height), int(width)) for height, width in sizes]

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]


def pairs(gold: dict[str, np.ndarray]) -> list[KeypointPair]:
    ends = np.cumsum(gold["points_n"])
    both = [np.split(gold[name], ends[:-1]) for name in ("points_a", "points_b")]
    found = []
    for number, ((a, b, kind), box) in enumerate(zip(gold["pairs"].tolist(), gold["boxes"].tolist(), strict=True)):
        points_2K2 = np.stack([both[0][number], both[1][number]]).astype(np.float64)
        size = tuple(gold["sizes"][b].tolist())
        found.append(KeypointPair(str(number), "g", kind, a, b, points_2K2, tuple(box), size))
    return found


def scored(gold: dict[str, np.ndarray], protocol: str, *overrides: str) -> tuple[list[np.ndarray], KeypointCounts]:
    """The answers of a protocol for each pair, and its counts; the maps stand for the encoder."""
    adapter = KeypointAdapter(load_card("task", "spair"), load_card("protocol", protocol, list(overrides)))
    options, maps, answers = adapter.options, torch.from_numpy(gold["maps"]), []
    images, counts = OnCanvas(Sizes(gold["sizes"]), options.canvas), KeypointCounts.for_classes(["cat", "dog"])
    for pair in pairs(gold):
        grids = [Grid((9, 9), images.size(place), (144, 144), (0, 0), (144, 144)) for place in (pair.first, pair.second)]
        queries_KD = read_points(maps[pair.first], pair.points_2K2[0] + images.shift(pair.first), grids[0], options.reading)
        soft = {"sigma": options.sigma, "radius": options.radius, "temperature": options.temperature}
        found_K2 = find_points(queries_KD, maps[pair.second], grids[1], options.answer, **soft) - images.shift(pair.second)
        answers.append(found_K2)
        counts.update(pair.id, pair.group, count(adapter.within(pair, found_K2), pair.kind, 2))
    return answers, counts


def test_dift_finds_the_same_pixels_and_gives_both_averages(gold):
    answers, counts = scored(gold, "spair-dift")
    assert np.array_equal(np.concatenate(answers), gold["dift_found"])
    values = counts.compute()
    assert [round(float(values[f"{by} PCK@0.10"]), 2) for by in ("image", "point")] == gold["dift_printed"].tolist()


def test_insid3_finds_the_same_places_and_gives_the_same_averages(gold):
    answers, counts = scored(gold, "spair-insid3")
    assert np.abs(np.concatenate(answers) - gold["insid3_found"]).max() < 1e-4
    values = counts.compute()
    for by in ("image", "point"):
        theirs = gold[f"insid3_pck_{by}"] * 100  # at 0.05, 0.10, 0.15 and 0.20, of shares in single precision
        assert [values[f"{by} PCK@{alpha:.2f}"] for alpha in ALPHAS[1:]] == pytest.approx(theirs.tolist(), abs=2e-5)


@pytest.mark.parametrize(
    ("protocol", "overrides", "theirs"),
    [
        ("spair-geoaware", (), "geo_found"),
        ("spair-geoaware-window", (), "geo_window_5"),
        ("spair-geoaware-window", ("probe.radius=2",), "geo_window_2"),
    ],
)
def test_geoaware_finds_the_same_patches_and_the_same_places_in_a_window(gold, protocol, overrides, theirs):
    answers, _ = scored(gold, protocol, *overrides)
    for pair, found_K2, theirs_K2 in zip(pairs(gold), answers, np.split(gold[theirs], np.cumsum(gold["points_n"])[:-1]), strict=True):
        (height, width), side = pair.size, 9 * 14
        scale = side / max(height, width)
        corner = (side - np.array([width, height]) * scale) / 2
        assert found_K2 * scale + corner == pytest.approx(theirs_K2, abs=1e-3)


@pytest.mark.parametrize("protocol", ["spair-probe3d", "spair-dinov3"])
def test_probe3d_measures_the_same_errors_and_averages_by_category(gold, protocol):
    """DINOv3's paper follows it, with larger images."""
    answers, counts = scored(gold, protocol)
    errors = []
    for pair, found_K2 in zip(pairs(gold), answers, strict=True):
        assert pair.box is not None
        longer = max(pair.box[2] - pair.box[0], pair.box[3] - pair.box[1])
        errors.append(np.linalg.norm(found_K2 - pair.points_2K2[1], axis=1) / longer)
    assert np.concatenate(errors) == pytest.approx(gold["probe3d_errors"], abs=1e-6)
    assert float(counts.compute()["category PCK@0.10"]) == pytest.approx(gold["probe3d_recall"].mean(), abs=1e-5)


def test_probe3d_averages_each_viewpoint_over_the_categories_that_have_it(gold):
    """Its `evaluate_dataset` and the end of its `main`, on the errors that its code gave; the second category has no hard pair."""
    answers, _ = scored(gold, "spair-probe3d")
    adapter, viewpoints = KeypointAdapter(load_card("task", "spair"), load_card("protocol", "spair-probe3d")), [0, 2, 1, 0, 1, 1]
    counts = DifficultyCounts.for_classes(["cat", "dog"])
    errors = np.split(gold["probe3d_errors"], np.cumsum(gold["points_n"])[:-1])
    kinds = [pair.kind for pair in pairs(gold)]
    for pair, found_K2, viewpoint in zip(pairs(gold), answers, viewpoints, strict=True):
        told = dataclasses.replace(pair, difficulty=(viewpoint, 0, 0, 0))
        counts.update(pair.id, pair.group, counts.observe(adapter.within(told, found_K2), told, where="here"))
    values = counts.compute()
    for level, name in enumerate(("easy", "medium", "hard")):
        chosen = [[e for e, kind, at in zip(errors, kinds, viewpoints, strict=True) if (kind, at) == (one, level)] for one in (0, 1)]
        recalls = [100 * (np.concatenate(of_one) < 0.10).mean() for of_one in chosen if of_one]
        assert values[f"category PCK@0.10 viewpoint {name}"] == pytest.approx(np.mean(recalls), abs=1e-9)


def test_insid3_takes_the_same_directions_from_features(gold):
    black_PD = unit(torch.from_numpy(gold["black"])).flatten(0, 1)
    basis_Dc = torch.linalg.svd((black_PD - black_PD.mean(0)).T, full_matrices=False).U[:, :5]
    found = without(torch.from_numpy(gold["biased"]), basis_Dc)
    assert torch.allclose(found, torch.from_numpy(gold["debiased"]), atol=1e-5)


def test_probe3d_matches_the_same_points_of_two_views(gold):
    points_2HW3 = gold["view_points"].astype(np.float64)
    maps = torch.from_numpy(gold["view_maps"])
    found = match_views(maps[0], maps[1], torch.from_numpy(points_2HW3[..., 2] > 0), 60, kind="bicubic")
    first, second = (points_HW3.reshape(-1, 3)[k] for points_HW3, k in zip(points_2HW3, (found.first_k, found.second_k), strict=True))
    assert np.array_equal(first, gold["view_first"]) and np.array_equal(second, gold["view_second"])
    assert found.weights_k.numpy() == pytest.approx(gold["view_weights"], abs=1e-5)
    meters_k, pixels_k = match_errors(first, second, gold["view_move"].astype(np.float64), (200, 210))
    assert meters_k == pytest.approx(gold["view_meters"], rel=1e-5) and pixels_k == pytest.approx(gold["view_pixels"], rel=2e-4)
    assert degrees_of(gold["view_move"].astype(np.float64)) == pytest.approx(gold["view_angle"][0], abs=1e-4)


def test_dinov3_keeps_the_matches_of_greatest_cosine_and_averages_recall_over_three_distances(gold):
    """Appendix D.3 in plain float64 on the same maps: no code of it is public."""
    points_2HW3, maps = gold["view_points"].astype(np.float64), torch.from_numpy(gold["view_maps"]).double()
    known_2HW = points_2HW3[..., 2] > 0
    large = [F.interpolate(map_Dhw[None], known_2HW.shape[1:], mode="bicubic")[0].permute(1, 2, 0) for map_Dhw in maps.permute(0, 3, 1, 2)]
    a, b = (F.normalize(map_HWD[torch.from_numpy(known_HW)], dim=1) for map_HWD, known_HW in zip(large, known_2HW, strict=True))
    cosines_N, rows_N = (a @ b.T).max(1)
    order_k = cosines_N.argsort(descending=True, stable=True)[:60]
    first_k3, second_k3 = points_2HW3[0][known_2HW[0]][order_k], points_2HW3[1][known_2HW[1]][rows_N[order_k]]
    move_44 = gold["view_move"].astype(np.float64)
    meters_k = np.linalg.norm(first_k3 @ move_44[:3, :3].T + move_44[:3, 3] - second_k3, axis=1)

    adapter = ViewAdapter(load_card("task", "navi-pairs"), load_card("protocol", "views-dinov3-navi", ["probe.matches=60"]))
    pair = ViewPair("1", "g", 0, 0, 1, points_2HW3, move_44, (200, 210), 20.0)
    found_k, pixels_k, _ = adapter._match(dict(enumerate(maps)), pair)
    assert np.sort(found_k) == pytest.approx(np.sort(meters_k), abs=1e-9)
    counts = ViewCounts.for_classes(["0 to 30 degrees"])
    counts.update("1", "g", count(within(found_k, pixels_k), 0, 1))
    plain = [100 * (meters_k < limit).mean() for limit in (0.01, 0.02, 0.05)]
    assert counts.compute()["mean recall@cm"] == pytest.approx(np.mean(plain), abs=1e-9)


def test_probe3d_matches_the_same_points_of_two_depth_maps(gold):
    height, width = gold["depths"].shape[1:]
    camera = Intrinsics(14, 14, 8, 6, height, width)
    points_2HW3 = np.stack([points(depth_HW, camera) for depth_HW in gold["depths"]])
    maps = torch.from_numpy(gold["depth_maps"])
    found = match_views(maps[0], maps[1], torch.from_numpy(points_2HW3[..., 2] > 0), 30, kind="bilinear")
    first, second = (points_HW3.reshape(-1, 3)[k] for points_HW3, k in zip(points_2HW3, (found.first_k, found.second_k), strict=True))
    assert first == pytest.approx(gold["depth_first"], abs=1e-6) and second == pytest.approx(gold["depth_second"], abs=1e-6)
    assert found.weights_k.numpy() == pytest.approx(gold["depth_weights"], abs=1e-5)


def test_recall_by_angle_is_that_of_probe3d(gold):
    bounds = [0, 30, 60, 90, 120]
    counts = np.zeros((4, 2 * ViewCounts.limits + 2))
    for recall, angle in zip(gold["binned_recall"].astype(np.float64), gold["binned_angle"], strict=True):
        group = np.searchsorted(bounds, angle, side="right") - 1
        counts[group, ViewCounts.limits] += recall
        counts[group, -1] += 1
    assert shares(counts, 0, "image") == pytest.approx(100 * gold["binned"], abs=1e-4)


def test_reading_between_patches_is_that_of_grid_sample(gold):
    """Of torch, as Probe3D calls it."""
    map_hwD, points_Q2 = torch.from_numpy(gold["maps"][0]), np.random.default_rng(0).uniform(0, 144, (20, 2))
    grid = Grid((9, 9), (144, 144), (144, 144), (0, 0), (144, 144))
    places = torch.from_numpy(points_Q2 / 144 * 2 - 1).float()[None, None]
    theirs = F.grid_sample(F.normalize(map_hwD, dim=-1).permute(2, 0, 1)[None], places, mode="bilinear", align_corners=True)[0, :, 0].T
    assert torch.allclose(read_points(map_hwD, points_Q2, grid, "corners"), F.normalize(theirs, dim=-1), atol=1e-5)
