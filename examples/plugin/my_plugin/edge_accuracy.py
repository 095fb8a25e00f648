"""A metric with counts of its own beside mIoU: the accuracy of the pixels within 3 pixels of a contour of the labels.

Axes: H W pixels; the axis of 2 is right pixels, pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

IGNORE, DISTANCE = 255, 3


class EdgeCounts(SampleCounts):
    """`tips-bench run --metrics edge-accuracy` scores it from the same predictions, with an interval of its own."""

    specs: ClassVar[dict[str, MetricSpec]] = {"edge accuracy": PERCENT}
    families = ("segmentation", "zeroshot-segmentation")

    def __init__(self) -> None:
        super().__init__((2,))

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> EdgeCounts:
        return cls()

    @staticmethod
    def summary(counts_x2: np.ndarray, /) -> dict[str, np.ndarray]:
        right_x, pixels_x = np.moveaxis(np.asarray(counts_x2, np.float64), -1, 0)
        return {"edge accuracy": 100 * ratio(right_x, pixels_x)}

    def observe(self, prediction: np.ndarray, sample: Any, *, where: object) -> np.ndarray:
        """prediction: class indices predicted_HW. sample: has labels_HW, 255 = ignored."""
        labels_HW, near_HW = sample.labels_HW, np.zeros(sample.labels_HW.shape, bool)
        for shift in range(1, DISTANCE + 1):
            for axis in (0, 1):
                differs_HW = labels_HW != np.roll(labels_HW, shift, axis)
                differs_HW[(slice(None),) * axis + (slice(shift),)] = False  # np.roll wraps around
                near_HW |= differs_HW | np.roll(differs_HW, -shift, axis)
        scored_HW = near_HW & (labels_HW != IGNORE)
        return np.array([(prediction == labels_HW)[scored_HW].sum(), scored_HW.sum()])
