"""mIoU after predicted classes were renamed by the best one-to-one match with the labeled ones, in percent.

The rule of vpariza/open-hummingbird-eval 5e79da2, hbird/utils/eval_metrics.py:110-167 and 212-218: the Hungarian method on the IoU of all
pairs of classes, then the mean over all classes of the set, 0 for one that is nowhere. For predictions that name their classes it can
only be greater than the mean over the same classes without a match.

Axes: H W pixels, C classes; the first C of counts is labeled, the second predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.segmentation import IGNORE
from tips_bench.metrics.spec import PERCENT, MetricSpec


def count(predicted_HW: np.ndarray, labels_HW: np.ndarray, classes: int) -> np.ndarray:
    """counts_CC in pixels, int64: how many of each labeled class were predicted as each class; ignored pixels count nowhere."""
    scored_HW = labels_HW != IGNORE
    codes = labels_HW[scored_HW].astype(np.int64) * classes + predicted_HW[scored_HW]
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes)


def iou(counts_CC: np.ndarray) -> np.ndarray:
    """iou_CC in [0, 1] of every labeled class with every predicted one; 0 where neither is there."""
    both_CC = counts_CC.astype(np.float64)
    union_CC = both_CC.sum(1, keepdims=True) + both_CC.sum(0, keepdims=True) - both_CC
    return np.divide(both_CC, union_CC, out=np.zeros_like(both_CC), where=union_CC > 0)


def summary(counts_xCC: np.ndarray) -> dict[str, np.ndarray]:
    """mIoU_matched in percent, shape ... for counts of shape ...CC."""
    counts_xCC = np.asarray(counts_xCC)
    means = [100 * _best(iou(counts_CC)) for counts_CC in counts_xCC.reshape(-1, *counts_xCC.shape[-2:])]
    return {"mIoU_matched": np.array(means).reshape(counts_xCC.shape[:-2])}


def _best(iou_CC: np.ndarray) -> float:
    labeled, predicted = linear_sum_assignment(iou_CC, maximize=True)
    return float(iou_CC[labeled, predicted].sum() / len(iou_CC))


class MatchedCounts(SampleCounts):
    """The counts_CC of every image."""

    specs: ClassVar[dict[str, MetricSpec]] = {"mIoU_matched": PERCENT}
    confusion = True
    families = ("segmentation", "zeroshot-segmentation")

    summary = staticmethod(summary)

    def __init__(self, classes: int) -> None:
        super().__init__((classes, classes))

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> MatchedCounts:
        """Of a set with these classes."""
        return cls(len(classes))

    def observe(self, prediction: np.ndarray, sample: Any, *, where: object) -> np.ndarray:
        """prediction: class indices predicted_HW. sample: a SegmentationSample."""
        return count(prediction, sample.labels_HW, self.shape[1])
