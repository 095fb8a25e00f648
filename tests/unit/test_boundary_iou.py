"""Boundary IoU against a brute force over pixels and against OpenCV's repeated erosion, and beside mIoU in a run."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.errors import UserError
from tips_bench.metrics.boundary_iou import BoundaryCounts, band, count, summary

IGNORE = 255


def brute_force(mask_HW: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask that have a pixel outside it, or outside the image, no further than `distance` rows and columns away."""
    height, width = mask_HW.shape
    near_HW = np.zeros_like(mask_HW)
    for y, x in zip(*np.nonzero(mask_HW), strict=True):
        for v in range(y - distance, y + distance + 1):
            for u in range(x - distance, x + distance + 1):
                if not (0 <= v < height and 0 <= u < width) or not mask_HW[v, u]:
                    near_HW[y, x] = True
    return near_HW


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
def test_a_band_is_what_lies_near_the_contour(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask_HW = cv2.blur(rng.random((height, width)).astype(np.float32), (5, 5)) > 0.5
    assert np.array_equal(band(mask_HW), brute_force(mask_HW, max(1, round(0.02 * np.hypot(height, width)))))


@pytest.mark.parametrize("size", [(120, 90), (240, 320)])
def test_a_band_is_what_repeated_erosion_takes_away(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    mask_HW = cv2.blur(rng.random(size).astype(np.float32), (31, 31)) > 0.5
    framed = np.pad(mask_HW.astype(np.uint8), 1)
    left = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=round(0.02 * np.hypot(*size)))[1:-1, 1:-1]
    assert np.array_equal(band(mask_HW), mask_HW & (left == 0))


def test_counts_are_those_of_each_class_by_itself_and_ignored_pixels_are_in_no_mask() -> None:
    rng = np.random.default_rng(1)
    labels_HW = cv2.resize(rng.integers(0, 3, (5, 6)).astype(np.uint8), (60, 50), interpolation=cv2.INTER_NEAREST)
    predicted_HW = np.roll(labels_HW, 2, axis=1)
    labels_HW[:7] = IGNORE
    counts_3C, scored_HW = count(predicted_HW, labels_HW, 4), labels_HW != IGNORE
    for label in range(4):
        predicted, truth = (brute_force((map_HW == label) & scored_HW, 2) for map_HW in (predicted_HW, labels_HW))
        assert counts_3C[:, label].tolist() == [(predicted & truth).sum(), predicted.sum(), truth.sum()]
    scores = [i / (p + t - i) for i, p, t in counts_3C.T if p + t]
    assert summary(counts_3C)["bIoU"] == pytest.approx(100 * np.mean(scores))


def test_a_perfect_map_scores_100_and_counts_that_contradict_each_other_are_refused() -> None:
    labels_HW = np.repeat([[0, 1, 2]], 9, axis=0).repeat(9, axis=1).astype(np.uint8)
    assert summary(count(labels_HW, labels_HW, 3))["bIoU"] == 100
    with pytest.raises(UserError, match="contradict"):
        BoundaryCounts(1).update("a", "a", np.array([[2], [1], [1]]))
