"""Surface normals scored over a data set: the angle between prediction and truth, in degrees.

    mean, median, RMSE                  of the angle
    acc_11.25, acc_22.5, acc_30         share of pixels whose angle is below that many degrees, in percent

Names without a suffix are means over images of each image's own value, as probe3d and iDisc report (probe3d evals/utils/metrics.py);
`_pooled` ones are over all pixels of the set, as Fouhey et al. (ICCV 2013), GeoNet and Bae et al. (ICCV 2021) report. The pooled median
follows from a histogram of angles in bins of BIN degrees: it lies within BIN of the exact one (of the lower of the middle two, where
the number of pixels is even); all else is exact.

Axes: H W pixels, V the scored pixels of an image, S the sums of a sample: SUMS, and then the histogram.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

BIN = 0.05
BINS = round(180 / BIN)
LIMITS = {"acc_11.25": 11.25, "acc_22.5": 22.5, "acc_30": 30.0}
VALUES = ("mean", "median", "RMSE", *LIMITS)
POOLED = ("mean_pooled", "median_pooled", "RMSE_pooled", *(f"{name}_pooled" for name in LIMITS))
SUMS = ("images", "pixels", *VALUES, "angles", "squares", *(f"{name}_pixels" for name in LIMITS))


def angles(predicted_V3: np.ndarray, truth_V3: np.ndarray) -> np.ndarray:
    """angles_V between vectors of any length in degrees, float64; 90 where one of them is zero, as with a cosine of 0."""
    (a_V, b_V, c_V), (x_V, y_V, z_V) = (np.ascontiguousarray(vectors.T, dtype=np.float64) for vectors in (predicted_V3, truth_V3))
    dot_V = a_V * x_V + b_V * y_V + c_V * z_V
    # The length of the cross product: exact for small angles, where an arc cosine is not.
    sine_V = np.sqrt((b_V * z_V - c_V * y_V) ** 2 + (c_V * x_V - a_V * z_V) ** 2 + (a_V * y_V - b_V * x_V) ** 2)
    return np.where((dot_V == 0) & (sine_V == 0), 90.0, np.degrees(np.arctan2(sine_V, dot_V)))


def known(normals_HW3: np.ndarray) -> np.ndarray:
    """bool [H,W]: which vectors are not 0 0 0."""
    x_HW, y_HW, z_HW = np.moveaxis(normals_HW3, -1, 0)  # a seventh of the time of numpy's `any` along a short last axis
    return (x_HW != 0) | (y_HW != 0) | (z_HW != 0)


def count(predicted_HW3: np.ndarray, truth_HW3: np.ndarray, *, where: object = None) -> np.ndarray:
    """sums_S of one image, float64; all 0 where no pixel has a normal.

    predicted_HW3: vectors of any length. truth_HW3: unit vectors, 0 0 0 = unknown. where: named in errors.
    Errors: maps of two sizes, a prediction that is not finite.
    """
    if predicted_HW3.ndim != 3 or predicted_HW3.shape[-1] != 3 or predicted_HW3.shape != truth_HW3.shape:
        problem = f"the prediction has shape {predicted_HW3.shape} and the normals {truth_HW3.shape}"
        raise UserError(problem, where=where, fix="Bring the prediction to the size of the normals.")
    known_HW = known(truth_HW3)
    predicted_V3, truth_V3 = (
        np.stack([plane_HW[known_HW] for plane_HW in np.moveaxis(vectors_HW3, -1, 0)], -1) for vectors_HW3 in (predicted_HW3, truth_HW3)
    )
    sums_S = np.zeros(len(SUMS) + BINS)
    if not len(truth_V3):
        return sums_S
    if not np.isfinite(predicted_V3).all():
        raise UserError("a predicted normal that is not finite", where=where, fix="Check the head's output.")
    angles_V = angles(predicted_V3, truth_V3)
    pixels, total, squares = len(angles_V), float(angles_V.sum()), float(np.square(angles_V).sum())
    below = [int((angles_V < limit).sum()) for limit in LIMITS.values()]
    values = [total / pixels, float(np.median(angles_V)), math.sqrt(squares / pixels), *(100 * hits / pixels for hits in below)]
    sums_S[: len(SUMS)] = [1, pixels, *values, total, squares, *below]
    sums_S[len(SUMS) :] = np.bincount(np.minimum((angles_V / BIN).astype(np.int64), BINS - 1), minlength=BINS)
    return sums_S


def summary(sums_xS: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric in its unit, of shape ... for summed sums of shape ...S; NaN where nothing was scored."""
    sums_xS = np.asarray(sums_xS, dtype=np.float64)
    sums = dict(zip(SUMS, np.moveaxis(sums_xS[..., : len(SUMS)], -1, 0), strict=True))
    means = {name: ratio(sums[name], sums["images"]) for name in VALUES}
    pooled = [
        ratio(sums["angles"], sums["pixels"]),
        _median(sums_xS[..., len(SUMS) :]),
        np.sqrt(np.maximum(ratio(sums["squares"], sums["pixels"]), 0)),  # a resample's sum may be a rounding error below 0
        *(100 * ratio(sums[f"{name}_pixels"], sums["pixels"]) for name in LIMITS),
    ]
    return means | dict(zip(POOLED, pooled, strict=True))


def _median(histogram_xB: np.ndarray) -> np.ndarray:
    """The angle below which half the pixels lie, each bin's pixels taken as spread over it evenly."""
    below_xB = np.cumsum(histogram_xB, axis=-1)
    half_x1 = below_xB[..., -1:] / 2
    bin_x1 = np.minimum((below_xB < half_x1).sum(axis=-1, keepdims=True), BINS - 1)
    inside_x1 = np.take_along_axis(histogram_xB, bin_x1, axis=-1)
    before_x1 = np.take_along_axis(below_xB, bin_x1, axis=-1) - inside_x1
    return BIN * (bin_x1 + ratio(half_x1 - before_x1, inside_x1))[..., 0]


DEGREES = MetricSpec(unit="deg", higher_is_better=False)


class NormalsCounts(SampleCounts):
    """The sums_S of every sample of a split, and the metrics of their sum."""

    dtype: ClassVar[type] = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {name: PERCENT if name.startswith("acc") else DEGREES for name in (*VALUES, *POOLED)}

    summary = staticmethod(summary)

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> NormalsCounts:
        """The same for every set."""
        return cls()

    def __init__(self) -> None:
        super().__init__((len(SUMS) + BINS,))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        images, pixels = counts[:2]
        if counts.min() < 0 or images not in (0, 1) or (pixels >= 1) != (images == 1) or counts[len(SUMS) :].sum() != pixels:
            raise UserError("the sums of an image contradict each other", where=where, fix="Run the task again.")
