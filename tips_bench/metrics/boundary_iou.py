"""Boundary IoU of semantic segmentation (Cheng et al., CVPR 2021, section 4): IoU of what lies near the contours of both masks, in percent.

A pixel of a class counts where it is no further than `d` pixels from a pixel of another class or from the border of the image, with d =
2 % of the image's diagonal, in 8-neighborhoods. Intersection and union of these bands are summed over the images, as for mIoU. Ignored
pixels are in no mask, neither of the truth nor of the prediction.

Axes: H W pixels, C classes; the axis of 3 is intersection, predicted, labeled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.ndimage import minimum_filter

from tips_bench.errors import UserError
from tips_bench.metrics import segmentation
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

DILATION = 0.02  # of the diagonal


def band(mask_HW: np.ndarray) -> np.ndarray:
    """The part of a mask near its contour: what an erosion by d pixels takes away."""
    distance = max(1, round(DILATION * float(np.hypot(*mask_HW.shape))))
    return mask_HW & ~minimum_filter(mask_HW, size=2 * distance + 1, mode="constant", cval=0)


def count(predicted_HW: np.ndarray, labels_HW: np.ndarray, classes: int) -> np.ndarray:
    """counts_3C in pixels, int64: intersection, predicted and labeled of the bands of each class."""
    counts_3C = np.zeros((3, classes), np.int64)
    scored_HW = labels_HW != segmentation.IGNORE
    for label in np.union1d(labels_HW[scored_HW], predicted_HW[scored_HW]):
        predicted, truth = (band((map_HW == label) & scored_HW) for map_HW in (predicted_HW, labels_HW))
        counts_3C[:, label] = (predicted & truth).sum(), predicted.sum(), truth.sum()
    return counts_3C


def summary(counts_x3C: np.ndarray) -> dict[str, np.ndarray]:
    """bIoU in percent, shape ...: the mean over the classes labeled or predicted somewhere."""
    return {"bIoU": segmentation.summary(counts_x3C)["mIoU"]}


class BoundaryCounts(SampleCounts):
    """The counts_3C of every image's bands."""

    specs: ClassVar[dict[str, MetricSpec]] = {"bIoU": PERCENT}
    per_class: ClassVar[Mapping[str, Any]] = {"bIoU": ("boundary IoU", lambda counts: segmentation.class_scores(counts)["IoU"])}
    families = ("segmentation", "zeroshot-segmentation")

    summary = staticmethod(summary)

    def __init__(self, classes: int) -> None:
        super().__init__((3, classes))

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> BoundaryCounts:
        """Of a set with these classes."""
        return cls(len(classes))

    def observe(self, prediction: np.ndarray, sample: Any, *, where: object) -> np.ndarray:
        """prediction: class indices predicted_HW. sample: a SegmentationSample."""
        return count(prediction, sample.labels_HW, self.shape[1])

    def check(self, counts: np.ndarray, *, where: object) -> None:
        intersection_C, predicted_C, labeled_C = counts
        if (intersection_C > np.minimum(predicted_C, labeled_C)).any():
            raise UserError("the counts of intersection, predicted and labeled pixels contradict each other", where=where)
