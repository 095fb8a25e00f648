"""Monocular depth scored over a data set, from sums that each image gives.

Names without a suffix are means over images of each image's own value, as DINOv2, DINOv3, BTS and AdaBins report; `RMSE_pooled` is the
root of the mean over all pixels of the set, another number. For a prediction p of a depth t, in metres:

    delta1-3    share of pixels with max(p / t, t / p) < 1.25, 1.25^2, 1.25^3, in percent
    AbsRel      mean |p - t| / t            SqRel      mean (p - t)^2 / t, metres
    RMSE        sqrt(mean (p - t)^2)        RMSE_log   sqrt(mean (ln p - ln t)^2)
    log10       mean |log10 p - log10 t|    SILog      100 sqrt(variance of ln p - ln t)

(D. Eigen, C. Puhrsch, R. Fergus, NIPS 2014, with SILog as KITTI's benchmark scales it.) Those are scale-aware: the prediction as it is,
capped to the range that is scored. `aligned_...` are after the scale and shift that fit each image best by least squares over its
scored pixels (Ranftl et al., 2019), not capped, as probe3d does it (evals/utils/metrics.py); there, an image predicted as one constant
becomes the mean of the truth, where probe3d leaves it as it is. A logarithm of what may be negative is not taken.

Axes: H W pixels, V the scored pixels of an image, S the sums of a sample (SUMS).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from tips_bench.cards import Strict
from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

NYU_SIZE = (480, 640)
Crop = Literal["none", "nyu-eigen", "kitti-garg", "kitti-eigen"]
# Fractions of height and width, from line to line; both as BTS and AdaBins apply them. Garg et al., ECCV 2016; Eigen et al., NIPS 2014.
FRACTIONS = {
    "kitti-garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "kitti-eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
NYU_EIGEN = (slice(45, 471), slice(41, 601))

VALUES = ("delta1", "delta2", "delta3", "AbsRel", "SqRel", "RMSE", "log10", "RMSE_log", "SILog")
ALIGNED = ("aligned_delta1", "aligned_delta2", "aligned_delta3", "aligned_AbsRel", "aligned_SqRel", "aligned_RMSE")
SQUARES = {"RMSE_pooled": "squares", "aligned_RMSE_pooled": "aligned_squares"}
SUMS = ("images", "pixels", *VALUES, *ALIGNED, *SQUARES.values())


class DepthRule(Strict):
    """Which pixels are scored: min_depth < truth < max_depth in metres, inside the crop; predictions are capped to the same range.

    crop: "nyu-eigen" rows 45-470 and columns 41-600 of 480x640; "kitti-garg" and "kitti-eigen" fractions of any size.
    """

    min_depth: float = Field(0.001, gt=0, allow_inf_nan=False)
    max_depth: float = Field(gt=0, allow_inf_nan=False)
    crop: Crop = "none"

    @model_validator(mode="after")
    def _has_room(self) -> DepthRule:
        if self.min_depth >= self.max_depth:
            raise ValueError("min_depth is not below max_depth")
        return self

    def scored(self, truth_HW: np.ndarray, *, where: object = None) -> np.ndarray:
        """scored_HW, bool. Errors: a crop in pixels for an image of another size."""
        scored_HW = (truth_HW > self.min_depth) & (truth_HW < self.max_depth)
        if self.crop == "none":
            return scored_HW
        inside_HW = np.zeros(truth_HW.shape, dtype=bool)
        inside_HW[crop_slices(self.crop, *truth_HW.shape, where=where)] = True
        return scored_HW & inside_HW


def crop_slices(crop: Crop, height: int, width: int, *, where: object = None) -> tuple[slice, slice]:
    """(rows, columns) of a crop. Errors: "nyu-eigen" for an image that is not 480x640."""
    if crop == "none":
        return slice(0, height), slice(0, width)
    if crop == "nyu-eigen":
        if (height, width) != NYU_SIZE:
            problem = f"the crop nyu-eigen is of 480x640 pixels, and the depth map is {height}x{width} (height x width)"
            raise UserError(problem, where=where, fix="Score with crop none.")
        return NYU_EIGEN
    top, bottom, left, right = FRACTIONS[crop]
    return slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))


def count(predicted_HW: np.ndarray, truth_HW: np.ndarray, rule: DepthRule, *, where: object = None) -> np.ndarray:
    """sums_S of one image, float64; all 0 where no pixel is scored.

    predicted_HW, truth_HW: metres, truth 0 = unknown. where: named in errors. Errors: maps of two sizes, a prediction that is not finite.
    """
    if predicted_HW.ndim != 2 or predicted_HW.shape != truth_HW.shape:
        problem = f"the prediction has shape {predicted_HW.shape} and the depth {truth_HW.shape}"
        raise UserError(problem, where=where, fix="Bring the prediction to the size of the depth map.")
    scored_HW = rule.scored(truth_HW, where=where)
    predicted_V, truth_V = predicted_HW[scored_HW].astype(np.float64), truth_HW[scored_HW].astype(np.float64)
    if not len(truth_V):
        return np.zeros(len(SUMS))
    if not np.isfinite(predicted_V).all():
        raise UserError("a predicted depth that is not finite", where=where, fix="Check the head's output.")
    capped_V = np.clip(predicted_V, rule.min_depth, rule.max_depth)
    logs_V = np.log(capped_V) - np.log(truth_V)
    *values, squares = _linear(capped_V, truth_V)
    values += [np.abs(logs_V).mean() / math.log(10), math.sqrt(np.square(logs_V).mean()), 100 * logs_V.std()]
    *aligned, aligned_squares = _linear(align(predicted_V, truth_V), truth_V)
    return np.array([1, len(truth_V), *values, *aligned, squares, aligned_squares], dtype=np.float64)


def _linear(predicted_V: np.ndarray, truth_V: np.ndarray) -> tuple[float, ...]:
    """delta1-3 in percent, AbsRel, SqRel, RMSE, and the sum of squares; a prediction of 0 or less is a miss."""
    error_V = predicted_V - truth_V
    squares_V = np.square(error_V)
    ratio_V = np.full(len(truth_V), np.inf)
    np.divide(predicted_V, truth_V, out=ratio_V, where=predicted_V > 0)
    ratio_V = np.maximum(ratio_V, 1 / ratio_V)
    deltas = [100 * float((ratio_V < 1.25**power).mean()) for power in (1, 2, 3)]
    relative, squared = float((np.abs(error_V) / truth_V).mean()), float((squares_V / truth_V).mean())
    return (*deltas, relative, squared, math.sqrt(squares_V.mean()), float(squares_V.sum()))


def align(predicted_V: np.ndarray, truth_V: np.ndarray) -> np.ndarray:
    """scale * predicted + shift that is nearest to the truth by least squares; the truth's mean for a constant prediction."""
    centered_V = predicted_V - predicted_V.mean()
    spread = float(centered_V @ centered_V)
    scale = float(centered_V @ (truth_V - truth_V.mean())) / spread if predicted_V.min() < predicted_V.max() and spread > 0 else 0.0
    return scale * centered_V + truth_V.mean()


def summary(sums_xS: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric in its unit, of shape ... for summed sums of shape ...S; NaN where nothing was scored."""
    sums = dict(zip(SUMS, np.moveaxis(np.asarray(sums_xS, dtype=np.float64), -1, 0), strict=True))
    means = {name: ratio(sums[name], sums["images"]) for name in (*VALUES, *ALIGNED)}
    # A resample's sum of squares may be a rounding error below 0.
    return means | {name: np.sqrt(np.maximum(ratio(sums[squares], sums["pixels"]), 0)) for name, squares in SQUARES.items()}


METERS = MetricSpec(unit="m", higher_is_better=False)
FRACTION = MetricSpec(unit="", higher_is_better=False)
UNITS = {"delta1": PERCENT, "delta2": PERCENT, "delta3": PERCENT, "SqRel": METERS, "RMSE": METERS, "RMSE_pooled": METERS}


class DepthCounts(SampleCounts):
    """The sums_S of every sample of a split, and the metrics of their sum."""

    dtype: ClassVar[type] = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {
        name: UNITS.get(name.removeprefix("aligned_"), FRACTION) for name in (*VALUES, "RMSE_pooled", *ALIGNED, "aligned_RMSE_pooled")
    }

    summary = staticmethod(summary)

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> DepthCounts:
        """The same for every set."""
        return cls()

    def __init__(self) -> None:
        super().__init__((len(SUMS),))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        images, pixels = counts[:2]
        if counts.min() < 0 or images not in (0, 1) or (pixels >= 1) != (images == 1):
            raise UserError("the sums of an image contradict each other", where=where, fix="Run the task again.")
