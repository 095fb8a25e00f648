"""Counts of matches against plain float64 loops, and the geometry behind them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tips_bench.adapters.view_matching import pixels_of, within
from tips_bench.data.camera_geometry import Intrinsics, points
from tips_bench.data.view_geometry import angle_group, angle_names, degrees_of, match_errors, rotation_of
from tips_bench.errors import UserError
from tips_bench.metrics.matches import ALPHAS, CENTIMETERS, PIXELS, KeypointCounts, ViewCounts, count
from tips_bench.pictures.matches import Line, match_panel


def random_pairs(seed: int, pairs: int = 40, groups: int = 5) -> list[tuple[np.ndarray, int]]:
    """(errors of points as fractions, group)"""
    random = np.random.default_rng(seed)
    return [(random.uniform(0, 0.3, random.integers(1, 12)), int(random.integers(groups - 1))) for _ in range(pairs)]


def keypoint_counts(found: list[tuple[np.ndarray, int]], groups: int = 5) -> KeypointCounts:
    counts = KeypointCounts.for_classes([str(group) for group in range(groups)])
    for number, (errors_K, group) in enumerate(found):
        counts.update(f"{number:03d}", str(group), count(errors_K <= np.array(ALPHAS)[:, None], group, groups))
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_pck_is_that_of_plain_loops(seed):
    found = random_pairs(seed)
    values = keypoint_counts(found).compute()
    for alpha in ALPHAS:
        by_image = [sum(error <= alpha for error in errors_K) / len(errors_K) for errors_K, _ in found]
        everywhere = [error <= alpha for errors_K, _ in found for error in errors_K]
        by_group = [[error <= alpha for errors_K, own in found if own == group for error in errors_K] for group in range(5)]
        assert values[f"image PCK@{alpha:.2f}"] == pytest.approx(100 * sum(by_image) / len(by_image), abs=1e-9)
        assert values[f"point PCK@{alpha:.2f}"] == pytest.approx(100 * sum(everywhere) / len(everywhere), abs=1e-9)
        scored = [100 * sum(one) / len(one) for one in by_group if one]
        assert values[f"category PCK@{alpha:.2f}"] == pytest.approx(sum(scored) / len(scored), abs=1e-9)
        assert np.isnan(values[f"point PCK@{alpha:.2f} of a category"][4]), "no pair is of the last category"


def test_shards_in_any_order_give_the_same_numbers():
    found = random_pairs(7)
    whole, parts = keypoint_counts(found), [KeypointCounts.for_classes(list("abcde")) for _ in range(3)]
    for number in reversed(range(len(found))):
        errors_K, group = found[number]
        parts[number % 3].update(f"{number:03d}", str(group), count(errors_K <= np.array(ALPHAS)[:, None], group, 5))
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0] == whole and parts[0].total().tobytes() == whole.total().tobytes()


def test_counts_survive_a_file_and_contradictions_are_refused(tmp_path):
    counts = keypoint_counts(random_pairs(1))
    counts.save(tmp_path / "counts.npz")
    assert KeypointCounts.for_classes(list("abcde")).read(tmp_path / "counts.npz") == counts
    wrong = count(np.ones((5, 3), bool), 1, 5)
    wrong[1, 0] = 9
    with pytest.raises(UserError, match="contradict"):
        counts.update("new", "0", wrong)


def test_every_pair_of_views_weighs_the_same_however_many_matches_it_has():
    counts = ViewCounts.for_classes(["0 to 30 degrees", "30 to 60 degrees"])
    counts.update("a", "g", count(within(np.full(1000, 0.015), np.full(1000, 30.0)), 0, 2))
    counts.update("b", "g", count(within(np.array([0.5]), np.array([200.0])), 1, 2))
    counts.update("c", "g", count(within(np.zeros(0), np.zeros(0)), 1, 2))
    values = counts.compute()
    assert [values[f"recall@{limit}cm"] for limit in CENTIMETERS] == pytest.approx([0, 100 / 3, 100 / 3])
    assert values["mean recall@cm"] == pytest.approx((0 + 100 / 3 + 100 / 3) / 3, abs=1e-9)
    assert [values[f"recall@{limit}px"] for limit in PIXELS] == pytest.approx([0, 0, 0, 0, 100 / 3, 100 / 3, 100 / 3])
    assert values["recall@2cm by angle"] == pytest.approx([100, 0])


def test_an_error_at_the_limit_is_not_within_it():
    assert not within(np.array([0.02]), np.array([20.0]))[[1, len(CENTIMETERS) + 2]].any()


def test_a_known_plane_seen_from_two_places_has_no_error():
    """Points of the plane n x = d, through both cameras."""
    move_44 = np.eye(4)
    move_44[:3, :3] = Rotation.from_euler("yxz", [20, -10, 5], degrees=True).as_matrix()
    move_44[:3, 3] = 0.3, -0.1, 0.2
    camera = Intrinsics(120, 130, 40, 30, 60, 80)
    normal, distance = np.array([0.1, -0.2, 1.0]), 3.0
    depth_HW = distance / (points(np.ones((60, 80)), camera) @ normal)
    first_N3 = points(depth_HW, camera).reshape(-1, 3)
    second_N3 = first_N3 @ move_44[:3, :3].T + move_44[:3, 3]
    meters_N, pixels_N = match_errors(first_N3, second_N3, move_44, (120, 130))
    assert meters_N.max() == 0 and pixels_N.max() == 0
    shifted_N3 = second_N3 + np.array([0.05, 0, 0])
    meters_N, pixels_N = match_errors(first_N3, shifted_N3, move_44, (120, 130))
    assert meters_N == pytest.approx(0.05) and pixels_N == pytest.approx(120 * 0.05 / second_N3[:, 2])


def test_rotations_are_those_of_scipy():
    for seed in range(5):
        w, x, y, z = quaternion = np.random.default_rng(seed).normal(size=4)
        rotation_33 = rotation_of(quaternion)
        assert rotation_33 == pytest.approx(Rotation.from_quat([x, y, z, w]).as_matrix())
        move_44 = np.eye(4)
        move_44[:3, :3] = rotation_33
        assert degrees_of(move_44) == pytest.approx(np.degrees(Rotation.from_matrix(rotation_33).magnitude()))
    with pytest.raises(ValueError, match="no rotation"):
        rotation_of([0, 0, 0, 0])


def test_angles_fall_into_ranges_that_include_the_last_bound():
    bounds = (0, 30, 60)
    assert angle_names(bounds) == ["0 to 30 degrees", "30 to 60 degrees"]
    assert [angle_group(angle, bounds, "x", "here") for angle in (0, 29.9, 30, 60)] == [0, 0, 1, 1]
    with pytest.raises(UserError, match="in no range"):
        angle_group(61, bounds, "x", "here")
    with pytest.raises(UserError, match="rise"):
        angle_names((30, 30))


def test_a_picture_has_right_and_wrong_lines_in_their_colors():
    images = [np.full((40, 60, 3), shade, np.uint8) for shade in (30, 60)]
    drawn = {}
    for right in (True, False):
        drawn[right] = match_panel(*images, [Line((5, 5), (50, 30), (20, 20), right)], "two images")
    green, red = ((panel == color).all(-1).sum() for panel, color in zip(drawn.values(), ((0, 170, 80), (220, 50, 40)), strict=True))
    assert green > 300 and red > 300 and drawn[True].shape == drawn[False].shape
    assert pixels_of(np.array([0, 7]), (2, 4), (100, 200)).tolist() == [[25.0, 25.0], [175.0, 75.0]]
