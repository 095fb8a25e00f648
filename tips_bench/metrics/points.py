"""Semantic segmentation of point clouds, over the points that some frame sees and over all points; both, always.

Published numbers differ in which points they score: Lexicon3D those that a frame sees, OpenScene all that are labelled. Points are
counted as integers, as pixels are in `segmentation.py`, and its rules hold: the means are over classes of the summed counts, and a
class that is neither labelled nor predicted in the whole set is left out of them.

Axes: C classes, N samples; the axis of 3 is intersection, predicted, labelled; the axis of 2 is visible, all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics import segmentation
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

SCORED = ("visible", "all")
MEANS = {"mIoU": "mIoU", "mAcc": "mAcc", "allAcc": "aAcc"}  # our name, and that of the same number for pixels


def count(predicted_N: np.ndarray, labels_N: np.ndarray, visible_N: np.ndarray, classes: int, *, where: object = None) -> np.ndarray:
    """counts_23C in points, int64. visible_N: bool. where: named in errors. Errors: those of `segmentation.count`; no point."""
    counts_3C = segmentation.count(predicted_N[None], labels_N[None], classes, where=where)
    if not visible_N.any():
        return np.stack([np.zeros_like(counts_3C), counts_3C])
    return np.stack([segmentation.count(predicted_N[None, visible_N], labels_N[None, visible_N], classes, where=where), counts_3C])


def class_scores(counts_x23C: np.ndarray) -> dict[str, np.ndarray]:
    """Per-class "IoU_visible", "Acc_visible", "IoU_all", "Acc_all" in percent, shape ...C; NaN for a class that was not scored."""
    counts_x23C = np.asarray(counts_x23C)
    parts = {scored: segmentation.class_scores(counts_x23C[..., place, :, :]) for place, scored in enumerate(SCORED)}
    return {f"{name}_{scored}": values for scored, found in parts.items() for name, values in found.items()}


def summary(counts_x23C: np.ndarray) -> dict[str, np.ndarray]:
    """mIoU, mAcc and allAcc (of points) over visible and over all points in percent, NaN where nothing was scored.

    Shape ... for counts of shape ...23C.
    """
    counts_x23C = np.asarray(counts_x23C)
    found: dict[str, np.ndarray] = {}
    for place, scored in enumerate(SCORED):
        values = segmentation.summary(counts_x23C[..., place, :, :])
        found |= {f"{name}_{scored}": values[pixel_name] for name, pixel_name in MEANS.items()}
    return found


def _class_score(name: str, counts_x23C: np.ndarray) -> np.ndarray:
    return class_scores(counts_x23C)[name]


class PointCounts(SampleCounts):
    """The counts_23C of every scan of a split, and the scores of their sum."""

    specs: ClassVar[dict[str, MetricSpec]] = {f"{name}_{scored}": PERCENT for scored in SCORED for name in MEANS}
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {f"{name}_{scored}": PERCENT for scored in SCORED for name in ("IoU", "Acc")}

    summary = staticmethod(summary)

    per_class: ClassVar[Mapping[str, Any]] = {
        f"m{name}_{scored}": (f"{name}_{scored}", partial(_class_score, f"{name}_{scored}")) for scored in SCORED for name in ("IoU", "Acc")
    }
    item = "scans"

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> PointCounts:
        """Of a set with these classes."""
        return cls(len(classes))

    def __init__(self, classes: int) -> None:
        super().__init__((2, 3, classes))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        intersection_2C, predicted_2C, labeled_2C = np.moveaxis(counts, 1, 0)
        beyond = (intersection_2C > np.minimum(predicted_2C, labeled_2C)).any() or (counts[0] > counts[1]).any()
        if beyond or (predicted_2C.sum(1) != labeled_2C.sum(1)).any():
            raise UserError("the counts of intersection, predicted and labelled points contradict each other", where=where)

    def compute(self) -> dict[str, float | np.ndarray]:
        """`summary` and `class_scores` of all scans together."""
        total_23C = self.total()
        return {**{name: float(value) for name, value in summary(total_23C).items()}, **class_scores(total_23C)}
