"""Object discovery: CorLoc in percent, the share of images whose one predicted box is correct.

A box is correct if its intersection over union with any true box of the image is at least one half (valeoai/LOST fcedbec,
main_lost.py:323-344). The source adds 1e-7 to heights and unions, so that nothing is divided by zero; here twice the intersection is
compared with the union, and nothing is divided.

Axes: N true boxes; the axis of 4 is left, top, right, bottom in pixels; that of 2 is correct, images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec


def overlap(box_4: np.ndarray, boxes_N4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(intersection_N, union_N) of a box with each of others, in pixels, float64."""
    box_4, boxes_N4 = np.asarray(box_4, dtype=np.float64), np.asarray(boxes_N4, dtype=np.float64).reshape(-1, 4)
    sides_N2 = np.minimum(box_4[2:], boxes_N4[:, 2:]) - np.maximum(box_4[:2], boxes_N4[:, :2])
    intersection_N = sides_N2.clip(0).prod(1)
    areas_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(1)
    return intersection_N, (box_4[2:] - box_4[:2]).prod() + areas_N - intersection_N


def is_correct(box_4: np.ndarray, boxes_N4: np.ndarray) -> bool:
    """Whether a box covers half of what it and any true box cover together."""
    intersection_N, union_N = overlap(box_4, boxes_N4)
    return bool((2 * intersection_N >= union_N).any())


def count(box_4: np.ndarray, boxes_N4: np.ndarray) -> np.ndarray:
    """counts_2 of one image, int64: correct, images."""
    return np.array([is_correct(box_4, boxes_N4), 1], dtype=np.int64)


def summary(counts_x2: np.ndarray) -> dict[str, np.ndarray]:
    """CorLoc in percent, shape ...; NaN without an image."""
    correct_x, images_x = np.moveaxis(np.asarray(counts_x2, dtype=np.float64), -1, 0)
    return {"CorLoc": 100 * ratio(correct_x, images_x)}


class DiscoveryCounts(SampleCounts):
    """The counts_2 of every image, and CorLoc of their sum."""

    specs: ClassVar[dict[str, MetricSpec]] = {"CorLoc": PERCENT}

    summary = staticmethod(summary)

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> DiscoveryCounts:
        """Of any set: classes do not matter."""
        return cls()

    def __init__(self) -> None:
        super().__init__((2,))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        correct, images = counts
        if images != 1 or correct > 1:
            raise UserError("the counts of an image contradict each other", where=where)
