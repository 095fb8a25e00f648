"""Pictures of depth and normals: one scale an image, colours that can be read back, unknown pixels grey."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from tips_bench.pictures.dense import depth_colors, depth_panel, normal_colors, normals_panel
from tips_bench.pictures.panels import CAPTION, GAP, IGNORED, TILE, fitted, pca_basis

FEATURES = np.random.default_rng(0).normal(size=(4, 5, 8))


def tile(picture, column, size):
    width, height = fitted(size[1], size[0])
    left = GAP + column * (TILE + GAP) + (TILE - width) // 2
    return picture[CAPTION : CAPTION + height, left : left + width]


def test_depth_is_viridis_from_the_nearest_to_the_farthest_known_depth_for_truth_and_prediction_alike():
    truth = np.full((20, 30), 2.0, np.float32)
    truth[:, 20:], truth[:5] = 6.0, 0.0
    predicted = np.full((20, 30), 4.0, np.float32)
    picture = depth_panel(np.zeros((20, 30, 3), np.uint8), truth, truth > 0, predicted, FEATURES, pca_basis([FEATURES]))
    low, middle, high = (np.round(255 * np.array(matplotlib.colormaps["viridis"](at)[:3])) for at in (0, 128, 255))
    shown = tile(picture, 1, (20, 30))
    assert shown[150, 100].tolist() == low.tolist() and shown[150, 280].tolist() == high.tolist()
    assert tuple(shown[20, 100]) == IGNORED
    assert tile(picture, 2, (20, 30))[100, 100].tolist() == middle.tolist()
    assert picture.dtype == np.uint8 and picture.shape[1] == 4 * TILE + 5 * GAP


def test_depths_beyond_the_scale_take_its_ends():
    colors = depth_colors(np.array([[-1.0, 0.0, 10.0, 99.0]]), 0.0, 10.0)
    assert np.array_equal(colors[0, 0], colors[0, 1]) and np.array_equal(colors[0, 2], colors[0, 3])


@pytest.mark.parametrize(
    ("normal", "color"),
    [((0, 0, -1), (128, 128, 255)), ((1, 0, 0), (255, 128, 128)), ((0, -1, 0), (128, 255, 128)), ((0, 1, 0), (128, 0, 128))],
)
def test_right_up_and_towards_the_viewer_are_red_green_and_blue(normal, color):
    assert normal_colors(np.array([[normal]], float))[0, 0].tolist() == pytest.approx(list(color), abs=1)


def test_unknown_normals_are_grey_and_a_set_without_any_truth_is_drawn():
    truth = np.zeros((10, 10, 3), np.float32)
    truth[:, 5:] = (0, 0, -1)
    known = truth.any(-1)
    predicted = np.broadcast_to(np.array([0, 0, -1.0]), truth.shape)
    picture = normals_panel(np.zeros((10, 10, 3), np.uint8), truth, known, predicted, FEATURES, pca_basis([FEATURES]))
    shown = tile(picture, 1, (10, 10))
    assert tuple(shown[100, 50]) == IGNORED and np.array_equal(shown[100, 250], tile(picture, 2, (10, 10))[100, 50])
    empty = np.zeros((10, 10), np.float32)
    depth_panel(np.zeros((10, 10, 3), np.uint8), empty, empty > 0, empty, FEATURES, pca_basis([FEATURES]))
    normals_panel(np.zeros((10, 10, 3), np.uint8), truth * 0, empty > 0, predicted, FEATURES, pca_basis([FEATURES]))


def test_the_same_map_gives_the_same_picture():
    truth = np.random.default_rng(1).uniform(1, 5, (12, 12)).astype(np.float32)
    arguments = np.zeros((12, 12, 3), np.uint8), truth, truth > 0, truth + 1, FEATURES, pca_basis([FEATURES])
    assert np.array_equal(depth_panel(*arguments), depth_panel(*arguments))
