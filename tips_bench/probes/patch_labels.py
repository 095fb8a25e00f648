"""What a patch is labelled: how much of its area bears each class.

A patch of 14 x 14 pixels often lies on several classes. Its soft label is the histogram of the label pixels whose centres fall
into it, taken at the labels' own resolution: integers, so that nothing is rounded before the probe sees it.

Axes: H W label pixels, P = h*w patches, C classes.
"""

from __future__ import annotations

import numpy as np


def patch_counts(
    labels_HW: np.ndarray, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int], classes: int
) -> np.ndarray:
    """counts_PC: labelled pixels of each class in each patch, int64; ignored pixels (ids from `classes` up) count nowhere.

    grid: (h, w). inner: the network input before padding (left, top, right, bottom), all in pixels.
    """
    left, top, right, bottom = padding
    row_H = patch_of(labels_HW.shape[0], grid[0], inner[0], top, bottom)
    column_W = patch_of(labels_HW.shape[1], grid[1], inner[1], left, right)
    codes_HW = (row_H[:, None] * grid[1] + column_W) * classes + labels_HW
    codes = codes_HW[labels_HW < classes]
    return np.bincount(codes, minlength=grid[0] * grid[1] * classes).reshape(-1, classes)


def patch_of(length: int, patches: int, inner: int, before: int, after: int) -> np.ndarray:
    """Index of the patch under each pixel centre x + 1/2 of an axis: ((x + 1/2) * inner / length + before) / padded * patches."""
    twice_center = (2 * np.arange(length, dtype=np.int64) + 1) * inner + 2 * before * length
    return twice_center * patches // (2 * length * (inner + before + after))
