"""Objects followed through videos: J, F and their mean in percent, as DAVIS 2017 scores them.

J is the IoU of an object's mask in a frame; F compares its contour with the true one, where a contour pixel is right that lies within a
tolerance of the other contour (Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016).
An object's J and F are means over its scored frames, recall is the share of frames above 0.5, and decay is the mean of the first quarter
of its frames less that of the last. All are averaged over the objects of all clips together, not over clips. The rules are those of
davisvideochallenge/davis2017-evaluation ac7c43f, davis2017/metrics.py:7-115,118-171, utils.py:124-149 and evaluation_method.py:43-45;
there the bounds of the quarters are bytes, so that the decay of a clip of more than 256 frames is of other frames than here.

A sample is a clip: its counts are sums over its objects. Axes: H W pixels, T frames; the axis of 7 is objects, then mean, recall and decay
of J, then of F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import cv2
import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

TOLERANCE = 0.008  # of the image's diagonal, by which a contour may be off
RECALLED = 0.5
QUARTERS = 4
COUNTS = 7


def region(truth_HW: np.ndarray, predicted_HW: np.ndarray) -> float:
    """J, the IoU of two boolean masks; 1 where both are empty."""
    union = np.count_nonzero(truth_HW | predicted_HW)
    return np.count_nonzero(truth_HW & predicted_HW) / union if union else 1.0


def contour(mask_HW: np.ndarray) -> np.ndarray:
    """Pixels of a boolean mask that differ from the one to the right, below, or below to the right; outside is as the last pixel."""
    padded = np.pad(mask_HW, ((0, 1), (0, 1)), mode="edge")
    found_HW = (mask_HW != padded[:-1, 1:]) | (mask_HW != padded[1:, :-1])
    found_HW[:-1, :-1] |= mask_HW[:-1, :-1] != mask_HW[1:, 1:]
    return found_HW


def boundary(truth_HW: np.ndarray, predicted_HW: np.ndarray) -> float:
    """F, the harmonic mean of precision and recall of contour pixels; 1 where no mask has a contour, 0 where only one has."""
    tolerance = math.ceil(TOLERANCE * math.hypot(*truth_HW.shape))
    truth_HW, predicted_HW = contour(truth_HW), contour(predicted_HW)
    true, predicted = np.count_nonzero(truth_HW), np.count_nonzero(predicted_HW)
    if not true or not predicted:
        return float(true == predicted)
    box = _box(truth_HW | predicted_HW)  # dilation is only asked for at contour pixels
    truth_HW, predicted_HW = truth_HW[box], predicted_HW[box]
    precision = np.count_nonzero(predicted_HW & _dilated(truth_HW, tolerance)) / predicted
    recall = np.count_nonzero(truth_HW & _dilated(predicted_HW, tolerance)) / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def object_sums(region_T: Sequence[float], boundary_T: Sequence[float]) -> np.ndarray:
    """The 7 sums of one object, float64, from its J and F in each scored frame. Errors: no frame."""
    if not len(region_T):
        raise UserError("an object has no scored frame", fix="A clip needs at least three frames.")
    return np.array([1.0, *_statistics(np.asarray(region_T)), *_statistics(np.asarray(boundary_T))])


def _statistics(values_T: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay."""
    bounds = (np.round(np.linspace(1, len(values_T), QUARTERS + 1) + 1e-10) - 1).astype(np.int64)
    first, last = values_T[bounds[0] : bounds[1] + 1], values_T[bounds[-2] : bounds[-1] + 1]
    return float(values_T.mean()), float((values_T > RECALLED).mean()), float(first.mean() - last.mean())


@cache
def _disk(radius: int) -> np.ndarray:
    """The pixels within `radius` of the middle, uint8."""
    offset = np.arange(-radius, radius + 1)
    return (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.uint8)


def _dilated(mask_HW: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(mask_HW.astype(np.uint8), _disk(radius)).astype(bool)


def _box(mask_HW: np.ndarray) -> tuple[slice, slice]:
    """The smallest box with all of a mask."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def summary(counts_x7: np.ndarray) -> dict[str, np.ndarray]:
    """Means over objects in percent, shape ...; NaN where there is none."""
    counts_x7 = np.asarray(counts_x7, np.float64)
    objects_x = counts_x7[..., 0]
    names = ("J", "J recall", "J decay", "F", "F recall", "F decay")
    means = {name: 100 * ratio(counts_x7[..., place], objects_x) for place, name in enumerate(names, 1)}
    return {"J&F": (means["J"] + means["F"]) / 2, **means}


class VideoCounts(SampleCounts):
    """The sums of every clip over its objects, and the means over all objects."""

    dtype = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {
        "J&F": PERCENT,
        "J": PERCENT,
        "F": PERCENT,
        "J recall": PERCENT,
        "F recall": PERCENT,
        "J decay": MetricSpec("%", higher_is_better=False),
        "F decay": MetricSpec("%", higher_is_better=False),
    }
    item = "clips"

    summary = staticmethod(summary)

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> VideoCounts:
        """Objects have no classes."""
        return cls()

    def __init__(self) -> None:
        super().__init__((COUNTS,))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        objects, shares = counts[0], counts[[1, 2, 4, 5]]
        if objects != int(objects) or objects < 0 or shares.min() < 0 or shares.max() > objects or np.abs(counts).max() > objects:
            raise UserError("the sums of a clip contradict each other", where=where)
