"""Semantic segmentation scored over a data set: mIoU, pixel accuracy and mean class accuracy, in percent.

Pixels are counted as integers and divided once, at the end: no float drift, and the order of the images, their batching and
their sharding cannot change a digit. The counts of each image are kept, for intervals and paired tests are computed from them.

The rules are those of mmsegmentation's IoUMetric: pixels labelled 255 count nowhere, and a class that is neither labelled nor
predicted in the whole set is left out of the means. The mean is over classes of the summed counts, not over images (the mean of
per-image IoU, which torchmetrics' MeanIoU gives, is another number).

Axes: H W pixels, C classes, N samples; the axis of 3 is intersection, predicted, labelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

BYTE = 256
IGNORE = 255


def count(prediction_HW: np.ndarray, labels_HW: np.ndarray, classes: int, *, where: object = None) -> np.ndarray:
    """counts_3C in pixels, int64: intersection, predicted (where the label is not ignored) and labelled.

    where: named in errors (the sample's file or id). Errors: maps of two sizes, not integer, or with an id outside the classes
    where it counts. A prediction at an ignored pixel may be any byte.

    One histogram of (label, prediction) pairs as 16-bit codes answers everything at once, which is faster than masking and
    three histograms.
    """
    if not 1 <= classes <= IGNORE:
        raise ValueError(f"classes={classes}: maps of bytes hold 1-{IGNORE} classes beside the ignored id {IGNORE}")
    prediction_HW, labels_HW = _bytes(prediction_HW, "predictions", where), _bytes(labels_HW, "labels", where)
    if prediction_HW.shape != labels_HW.shape:
        sizes = f"the prediction is {_size(prediction_HW)} and the labels are {_size(labels_HW)}"
        raise UserError(f"{sizes} pixels (height x width)", where=where, fix="Bring the prediction to the size of the labels.")
    codes_HW = (labels_HW + np.uint8(1)).astype(np.uint16)  # wraps: ignored pixels in row 0, so that few classes need few bins
    codes_HW <<= 8
    codes_HW |= prediction_HW
    pairs = np.bincount(codes_HW.ravel(), minlength=(classes + 1) * BYTE)
    if len(pairs) > (classes + 1) * BYTE:
        labeled = np.bincount(labels_HW.ravel())[:IGNORE]
        raise _outside("label", labeled, classes, where, f"Ids are 0-{classes - 1}, and {IGNORE} for pixels to ignore.")
    pairs_CP = pairs.reshape(classes + 1, BYTE)[1:]
    predicted_P = pairs_CP.sum(axis=0)
    if predicted_P[classes:].any():
        raise _outside("predicted", predicted_P, classes, where, f"Predict ids of 0-{classes - 1}.")
    return np.stack([pairs_CP.diagonal(), predicted_P[:classes], pairs_CP.sum(axis=1)]).astype(np.int64, copy=False)


def _bytes(map_HW: np.ndarray, name: str, where: object) -> np.ndarray:
    if map_HW.ndim != 2 or map_HW.size == 0:
        raise UserError(f"a map of {name} of shape {tuple(map_HW.shape)}, not height x width", where=where)
    if map_HW.dtype.kind not in "ui":
        raise UserError(
            f"a map of {name} of {map_HW.dtype} values, not integer class ids", where=where, fix="Give ids, for example after argmax."
        )
    if map_HW.dtype == np.uint8:
        return map_HW
    low, high = int(map_HW.min()), int(map_HW.max())
    if low < 0 or high >= BYTE:
        raise UserError(f"an id of {low if low < 0 else high} in the {name}", where=where, fix="Ids are 0-255.")
    return map_HW.astype(np.uint8)


def _size(map_HW: np.ndarray) -> str:
    return "x".join(map(str, map_HW.shape))


def _outside(kind: str, histogram: np.ndarray, classes: int, where: object, fix: str) -> UserError:
    found = np.flatnonzero(histogram[classes:]) + classes
    some = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
    return UserError(f"{kind} ids outside the {classes} classes: {some} ({int(histogram[found].sum())} pixels)", where=where, fix=fix)


def class_scores(counts_x3C: np.ndarray) -> dict[str, np.ndarray]:
    """Per-class "IoU" and "Acc" in percent, of shape ...C for counts of shape ...3C; NaN for a class that was not scored."""
    counts_x3C = np.asarray(counts_x3C, dtype=np.float64)  # sums stay exact below 2**53 pixels
    intersection_xC, predicted_xC, labeled_xC = np.moveaxis(counts_x3C, -2, 0)
    union_xC = predicted_xC + labeled_xC - intersection_xC
    return {"IoU": _percent(intersection_xC, union_xC), "Acc": _percent(intersection_xC, labeled_xC)}


def summary(counts_x3C: np.ndarray) -> dict[str, np.ndarray]:
    """mIoU, aAcc and mAcc in percent, of shape ... for counts of shape ...3C; NaN where nothing was scored.

    mIoU: mean over the classes labelled or predicted somewhere; mAcc: over the classes labelled; aAcc: over pixels.
    """
    per_class = class_scores(counts_x3C)
    hits_x, _, pixels_x = np.moveaxis(np.asarray(counts_x3C, dtype=np.float64).sum(axis=-1), -1, 0)
    return {"mIoU": _mean(per_class["IoU"]), "aAcc": _percent(hits_x, pixels_x), "mAcc": _mean(per_class["Acc"])}


def scores(counts_3C: np.ndarray) -> dict[str, float | np.ndarray]:
    """mIoU, aAcc, mAcc (floats) and per-class IoU, Acc (arrays of C) in percent, at full precision; NaN where nothing was scored."""
    return {**{name: float(value) for name, value in summary(counts_3C).items()}, **class_scores(counts_3C)}


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    scored = np.asarray(whole > 0)
    return np.divide(100.0 * part, whole, out=np.full(scored.shape, np.nan), where=scored)


def _mean(values_xC: np.ndarray) -> np.ndarray:
    """Mean over the classes that were scored; NaN where there are none (np.nanmean would warn)."""
    scored_xC = ~np.isnan(values_xC)
    number_x = scored_xC.sum(axis=-1)
    total_x = np.where(scored_xC, values_xC, 0.0).sum(axis=-1)
    return np.divide(total_x, number_x, out=np.full(number_x.shape, np.nan), where=number_x > 0)


class SegmentationCounts(SampleCounts):
    """The counts_3C of every sample of a split, and the scores of their sum."""

    specs: ClassVar[dict[str, MetricSpec]] = {"mIoU": PERCENT, "aAcc": PERCENT, "mAcc": PERCENT}
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {"IoU": PERCENT, "Acc": PERCENT}

    per_class: ClassVar[Mapping[str, Any]] = {
        "mIoU": ("IoU", lambda counts: class_scores(counts)["IoU"]),
        "mAcc": ("Acc", lambda counts: class_scores(counts)["Acc"]),
    }

    summary = staticmethod(summary)

    def __init__(self, classes: int) -> None:
        super().__init__((3, classes))
        self.classes = classes

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> SegmentationCounts:
        """Of a set with these classes."""
        return cls(len(classes))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        intersection_C, predicted_C, labeled_C = counts
        if (intersection_C > np.minimum(predicted_C, labeled_C)).any() or predicted_C.sum() != labeled_C.sum():
            raise UserError("the counts of intersection, predicted and labelled pixels contradict each other", where=where)

    def compute(self) -> dict[str, float | np.ndarray]:
        """`scores` of all samples together."""
        return scores(self.total())
