"""Points of one image looked for in another, by the features of their patches, in the ways of published evaluations.

How the feature of a point is read, and where a match is said to lie, differs from one evaluation to the next, and scores with it:

    reading    pixel     the map enlarged bilinearly to the image, at the point's pixel (Tsingularity/dift 9421eb2, eval_spair.py:94-111)
               corners   bilinearly among unit features whose outermost ones lie on the image's edges (mbanani/probe3d a1f1464,
                         evaluate_spair_correspondence.py:54,69-73)
               patch     of the patch that the point lies in (Junyi42/GeoAware-SC 99fd6b6, utils/utils_correspondence.py:384-389)
               nearest   of the patch whose number is nearest to the point's place (visinf/INSID3 f1c9622, models/insid3.py:216-220)
    answer     pixel     the pixel of the greatest cosine on the map enlarged to the image (eval_spair.py:94-117)
               corner    the upper left corner of the nearest patch (evaluate_spair_correspondence.py:76-78)
               center    its center (utils_correspondence.py:372-377)
               soft      the mean place of all patches, weighed by a softmax of cosines that a Gaussian around the nearest damps, where a
                         patch lies at its upper left corner (INSID3, utils/keypoints.py:36-63)
               window    the same with cosines that are 0 outside of a square around the nearest, where a patch lies at its center; patches
                         outside count, too, by the softmax of 0 (utils_correspondence.py:214-297,364-377)

An enlarged map is never made: cosines of its pixels follow from the products of patches, because enlarging is linear.

Axes: Q points, h w token grid, H W pixels, D feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.affinity import top_matches, unit
from tips_bench.features.geometry import interpolation
from tips_bench.features.patch_maps import Grid

Reading = Literal["pixel", "corners", "patch", "nearest"]
Answer = Literal["pixel", "corner", "center", "soft", "window"]
PIXELS = {"cpu": 1 << 21, "cuda": 1 << 26}  # cosines held at once


def read_points(features_hwD: Tensor, points_Q2: np.ndarray, grid: Grid, reading: Reading) -> Tensor:
    """[Q,D] of length 1. points_Q2: x, y as a file of keypoints has them."""
    size_2 = np.array(grid.hw[::-1])
    if reading == "pixel":
        return unit(_bilinear(features_hwD, grid.shares(points_Q2 + 0.5) * size_2 - 0.5))
    places_Q2 = grid.shares(points_Q2)
    if reading == "corners":
        return unit(_bilinear(unit(features_hwD), places_Q2 * (size_2 - 1)))
    cells_Q2 = (np.floor if reading == "patch" else np.round)(places_Q2 * size_2).clip(0, size_2 - 1).astype(np.int64)
    return unit(features_hwD[torch.from_numpy(cells_Q2[:, 1]), torch.from_numpy(cells_Q2[:, 0])])


def find_points(
    queries_QD: Tensor, features_hwD: Tensor, grid: Grid, answer: Answer, *, sigma: float = 7, radius: int = 5, temperature: float = 0.04
) -> np.ndarray:
    """x, y of each query in the image of the map, float64 [Q,2], in the coordinates of `read_points`.

    queries_QD: unit features. sigma: of the Gaussian of "soft", radius: of the square of "window", both in patches. temperature: of the
    softmax of both.
    """
    if answer == "pixel":
        return _best_pixels(queries_QD, features_hwD, grid)
    height, width = grid.hw
    keys_KD = unit(features_hwD).flatten(0, 1).to(queries_QD)
    if answer == "soft":
        cells_Q2 = _mean_place(_damped(queries_QD @ keys_KD.T, width, sigma), width, temperature)
    elif answer == "window":
        cells_Q2 = _mean_place(_inside(queries_QD @ keys_KD.T, width, radius), width, temperature) + 0.5
    else:
        rows_Q = top_matches(queries_QD, keys_KD, 1).rows_Qk[:, 0].cpu().numpy()
        cells_Q2 = np.stack([rows_Q % width, rows_Q // width], 1) + (0.5 if answer == "center" else 0.0)
    return grid.pixels(cells_Q2 / np.array([width, height]))


def _bilinear(features_hwD: Tensor, places_Q2: np.ndarray) -> Tensor:
    """[Q,D] between the centers of patches; beyond the outermost it stays as it is."""
    height, width = features_hwD.shape[:2]
    places_Q2 = places_Q2.clip(0, [width - 1, height - 1])
    low_Q2 = np.floor(places_Q2).astype(np.int64)
    high_Q2 = np.minimum(low_Q2 + 1, [width - 1, height - 1])
    part_Q2 = torch.from_numpy(places_Q2 - low_Q2).to(features_hwD)
    (left, top), (right, bottom) = low_Q2.T, high_Q2.T
    x_Q1, y_Q1 = part_Q2[:, :1], part_Q2[:, 1:]
    upper_QD = features_hwD[top, left] * (1 - x_Q1) + features_hwD[top, right] * x_Q1
    lower_QD = features_hwD[bottom, left] * (1 - x_Q1) + features_hwD[bottom, right] * x_Q1
    return upper_QD * (1 - y_Q1) + lower_QD * y_Q1


def _damped(cosines_QK: Tensor, width: int, sigma: float) -> Tensor:
    """[Q,K]: less, the farther a patch is from the nearest one."""
    return torch.exp(-_away(cosines_QK, width).square().sum(2) / (2 * sigma**2)) * cosines_QK


def _inside(cosines_QK: Tensor, width: int, radius: int) -> Tensor:
    """[Q,K]: 0 for patches that are farther from the nearest one than `radius` rows or columns."""
    return cosines_QK.masked_fill(_away(cosines_QK, width).abs().amax(2) > radius, 0)


def _away(cosines_QK: Tensor, width: int) -> Tensor:
    """[Q,K,2]: columns and rows from the patch of the greatest cosine to each patch."""
    cells_K2 = _cells(cosines_QK, width)
    return cells_K2 - cells_K2[cosines_QK.argmax(1)][:, None]


def _mean_place(scores_QK: Tensor, width: int, temperature: float) -> np.ndarray:
    """Mean (column, row), weighed by a softmax, float64 [Q,2]."""
    return ((scores_QK / temperature).softmax(1) @ _cells(scores_QK, width)).double().cpu().numpy()


def _cells(scores_QK: Tensor, width: int) -> Tensor:
    """[K,2]: column and row of each patch."""
    number_K = torch.arange(scores_QK.shape[1], device=scores_QK.device)
    return torch.stack([number_K % width, number_K // width], 1).to(scores_QK)


def _best_pixels(queries_QD: Tensor, features_hwD: Tensor, grid: Grid) -> np.ndarray:
    """(column, row) of the pixel with the greatest cosine on the enlarged map; of equal ones the first, line by line."""
    features_hwD = features_hwD.to(queries_QD)
    rows_Hh, columns_Ww = (_enlarging(grid, axis).to(queries_QD) for axis in (0, 1))
    scale_HW = enlarged_norms(features_hwD, rows_Hh, columns_Ww).clamp(min=1e-12).reciprocal()
    found, at_once = [], max(1, PIXELS.get(queries_QD.device.type, PIXELS["cpu"]) // scale_HW.numel())
    for queries_qD in queries_QD.split(at_once):
        products_qhw = (queries_qD @ features_hwD.flatten(0, 1).T).unflatten(1, grid.hw)
        cosines_qHW = (rows_Hh @ (products_qhw @ columns_Ww.T)).mul_(scale_HW)
        found.append(cosines_qHW.flatten(1).max(1).indices)
    place_Q = torch.cat(found).cpu().numpy() if found else np.zeros(0, np.int64)
    return np.stack([place_Q % grid.size[1], place_Q // grid.size[1]], 1).astype(np.float64)


def _enlarging(grid: Grid, axis: int) -> Tensor:
    """[pixels of the image, patches] along an axis, as torch enlarges a map bilinearly; without what was padded."""
    patches, size, inner, before, padded = (pair[axis] for pair in (grid.hw, grid.size, grid.inner, grid.before, grid.padded))
    if padded == inner:
        return interpolation(patches, size)
    window = interpolation(patches, padded)[before : before + inner]
    return interpolation(inner, size) @ window


def enlarged_norms(features_hwD: Tensor, rows_Hh: Tensor, columns_Ww: Tensor) -> Tensor:
    """[H,W]: lengths of the features of an enlarged map that is never made.

    A pixel's feature is a sum of those of a few patches near each other, so its square is a sum of their products.
    """
    wide_hwD, wide_Ww = features_hwD.double(), columns_Ww.double()
    squares_HW = wide_hwD.new_zeros(len(rows_Hh), len(columns_Ww))
    for down, rows_Hg in _both(rows_Hh.double()):
        products_gww = wide_hwD[: len(wide_hwD) - down] @ wide_hwD[down:].mT
        squares_gW = ((wide_Ww @ products_gww) * wide_Ww).sum(2)
        squares_HW += (2 if down else 1) * (rows_Hg @ squares_gW)
    return squares_HW.clamp(min=0).sqrt().to(features_hwD)


def _both(weights_Nn: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(step, products [N, n - step] of the weights of patches so far apart) for all steps at which a pixel has both patches."""
    for step in range(weights_Nn.shape[1]):
        products = weights_Nn[:, : weights_Nn.shape[1] - step] * weights_Nn[:, step:]
        if products.any():
            yield step, products
