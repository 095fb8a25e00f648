"""What a model sees of depth and of surface normals: image | truth | prediction | principal components of its features.

A depth is a color of viridis, which is perceptually uniform, from the nearest known depth of the image to the farthest, the same for
truth and prediction. A normal's x to the right, y upwards and z towards the viewer are red, green and blue. Unknown pixels are grey.

Axes: H W pixels, h w token grid, D feature; the axis of 3 is RGB or a vector.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tips_bench.pictures.panels import IGNORED, PcaBasis, tile_row


def depth_panel(
    image_HW3: np.ndarray, truth_HW: np.ndarray, known_HW: np.ndarray, prediction_HW: np.ndarray, features_hwD: np.ndarray, basis: PcaBasis
) -> np.ndarray:
    """One depth map and its prediction, metres, as a row of four captioned pictures; uint8 RGB."""
    known_V = truth_HW[known_HW]
    low, high = (float(known_V.min()), float(known_V.max())) if len(known_V) else (0.0, 1.0)
    truth_HW3 = np.where(known_HW[..., None], depth_colors(truth_HW, low, high), np.array(IGNORED, np.uint8))
    rmse = f", RMSE {np.sqrt(np.square(prediction_HW[known_HW] - known_V).mean()):.2f} m" if len(known_V) else ""
    prediction = f"prediction{rmse}", depth_colors(prediction_HW, low, high)
    return _row(image_HW3, (f"truth, {low:.1f} to {high:.1f} m", truth_HW3), prediction, features_hwD, basis)


def normals_panel(
    image_HW3: np.ndarray,
    truth_HW3: np.ndarray,
    known_HW: np.ndarray,
    prediction_HW3: np.ndarray,
    features_hwD: np.ndarray,
    basis: PcaBasis,
) -> np.ndarray:
    """One map of normals and its prediction, unit vectors, as a row of four captioned pictures; uint8 RGB."""
    colors_HW3 = np.where(known_HW[..., None], normal_colors(truth_HW3), np.array(IGNORED, np.uint8))
    cosine_V = (truth_HW3[known_HW] * prediction_HW3[known_HW]).sum(-1).clip(-1, 1)
    angle = f", {np.degrees(np.arccos(cosine_V)).mean():.0f}° off" if len(cosine_V) else ""
    prediction = f"prediction{angle}", normal_colors(prediction_HW3)
    return _row(image_HW3, ("truth", colors_HW3), prediction, features_hwD, basis)


def _row(
    image_HW3: np.ndarray, truth: tuple[str, np.ndarray], prediction: tuple[str, np.ndarray], features_hwD: np.ndarray, basis: PcaBasis
) -> np.ndarray:
    tiles = [("image", image_HW3, True), (*truth, False), (*prediction, False), ("PCA of features", basis.colors(features_hwD), False)]
    return np.asarray(tile_row(tiles, 0))


def depth_colors(depth_HW: np.ndarray, low: float, high: float) -> np.ndarray:
    """[H,W,3] uint8: viridis from `low` to `high` metres, its ends beyond them."""
    scaled_HW = (depth_HW.astype(np.float64) - low) / max(high - low, 1e-6)
    return _viridis()[np.round(255 * scaled_HW.clip(0, 1)).astype(np.uint8)]


def normal_colors(normals_HW3: np.ndarray) -> np.ndarray:
    """[H,W,3] uint8 of vectors in the camera's frame (x right, y down, z forward)."""
    return np.round(255 * ((normals_HW3 * (1, -1, -1) + 1) / 2).clip(0, 1)).astype(np.uint8)


@cache
def _viridis() -> np.ndarray:
    import matplotlib

    return np.round(255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)
