"""How sure a score is: bootstrap intervals of data-set metrics, from the counts of each sample.

Samples are drawn with replacement and the metric of their summed counts is taken, many times. Where samples of a group (the views of
one scene, the frames of one video) are not independent, whole groups are drawn: the cluster bootstrap. A data-set metric is a function
of the summed counts, so a resample is a vector of how often each group was drawn, and all resamples are one matrix product.

The interval is the bias-corrected and accelerated one, BCa (Efron, Better Bootstrap Confidence Intervals, 1987), as in
scipy.stats.bootstrap. The plain percentiles will not do: the mean IoU of a finite set is biased upward by its rare classes, a resample
doubles the bias, and the plain interval moves the wrong way. It is widened for what the bootstrap still underestimates: few groups, by
Student's quantile (the expanded interval of Hesterberg, What Teachers Should Know About the Bootstrap, 2015), and rare classes, of which
it finds (n - 1)/n of the variance where n groups hold the class and the jackknife n/(n - 1): their geometric mean is right.

Two models scored on the same samples are compared pair by pair: a resample draws the same samples for both, so what makes an image
hard for both cancels. `differences` gives the interval of the difference, a p-value from swapping the two models' counts sample by
sample (the randomisation test: were the models alike, each sample could as well have come from either; Fisher, The Design of
Experiments, 1935; Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989) and the smallest difference that the set detects.

The interval says how much the score would move with other test images of the same kind. It says nothing about other training
images or seeds, and it speaks of the classes that the set holds.

Axes: N samples, G groups, R resamples, M tests, 2 the pair of models; the axes of one sample's counts follow (3C for segmentation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Summary = Callable[[np.ndarray], Mapping[str, np.ndarray]]
CHUNK_ELEMENTS = 1 << 22
RESAMPLES = 2000
SWAPS = 9999  # the least p is 1 / (SWAPS + 1), small enough for Benjamini-Hochberg over several hundred tests
LEVEL = 0.95
ALPHA = 0.05  # a difference with a greater p is not told
POWER = 0.8


def intervals(
    counts_N: np.ndarray, groups: Sequence[str], summary: Summary, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> dict[str, tuple[float, float] | None]:
    """Metric name -> (low, high) in the metric's unit; None where there is nothing to resample or nothing was scored.

    counts_N: the counts of each sample, shape (N, ...). groups: of each sample, its own id where samples are independent.
    summary: summed counts of shape (R, ...) -> name -> values of shape (R,), NaN where a resample has no value; those resamples
    are left out of that metric's interval. The same counts, groups and seed give the same interval, whatever the order of samples.
    """
    counts_G = group_sums(counts_N, groups)
    whole = summary(counts_G.sum(axis=0, keepdims=True))
    if len(counts_G) < 2:
        return dict.fromkeys(whole)
    drawn = _collect(summary, _resampled(counts_G, resamples, np.random.default_rng(seed)))
    left_out = _collect(summary, _leave_one_out(counts_G))
    return {name: _bca(drawn[name], float(whole[name][0]), left_out[name], level) for name in whole}


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same samples, in the metric's unit; NaN where it was not scored.

    interval: of b - a, None where there is nothing to resample. p: two-sided, of the randomisation test; NaN without a difference.
    detectable: the least true difference that a set like this tells from none with 80 % power at 5 %, from the spread of resamples; NaN
    where there are so few groups that the test never gives 5 % (`least_p`).
    """

    a: float
    b: float
    interval: tuple[float, float] | None
    p: float
    detectable: float

    @property
    def value(self) -> float:
        """b - a."""
        return self.b - self.a


def differences(
    counts_N2: np.ndarray, groups: Sequence[str], summary: Summary, *, resamples: int = RESAMPLES, swaps: int = SWAPS, seed: int = 0
) -> dict[str, Difference]:
    """Metric name -> how two models differ, from the counts of both on each sample, shape (N, 2, ...).

    groups and summary: as for `intervals`; the summary takes any number of leading axes. Whole groups are drawn and swapped.
    """
    counts_G2 = group_sums(counts_N2, groups)
    whole = {name: np.asarray(values_2, dtype=np.float64) for name, values_2 in summary(counts_G2.sum(axis=0)).items()}
    if len(counts_G2) < 2:
        return {name: Difference(float(a), float(b), None, np.nan, np.nan) for name, (a, b) in whole.items()}

    def difference(totals_R2: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values_R2[:, 1] - values_R2[:, 0] for name, values_R2 in summary(totals_R2).items()}

    drawn = _collect(difference, _resampled(counts_G2, resamples, np.random.default_rng([seed, 0])))
    left_out = _collect(difference, _leave_one_out(counts_G2))
    swapped = _collect(difference, _swapped(counts_G2, swaps, np.random.default_rng([seed, 1])))
    return {
        name: Difference(
            a=float(a),
            b=float(b),
            interval=_bca(drawn[name], float(b - a), left_out[name], LEVEL),
            p=_p_value(swapped[name], float(b - a)),
            detectable=_detectable(drawn[name], left_out[name]) if least_p(len(counts_G2)) <= 1 - LEVEL else np.nan,
        )
        for name, (a, b) in whole.items()
    }


def least_p(groups: int) -> float:
    """The least p that the test of two models has on a set of so many groups: two of the 2**groups ways to swap differ as the data do."""
    return max(2.0 ** (1 - groups), 1 / (SWAPS + 1))


def contributions(counts_N2: np.ndarray, summary: Summary) -> dict[str, np.ndarray]:
    """Metric name -> by how much each sample raises b - a of the whole set, shape (N,): the difference with it less that without it."""
    whole = summary(counts_N2.sum(axis=0))
    without = _collect(summary, _leave_one_out(counts_N2))
    return {name: (values_2[1] - values_2[0]) - (without[name][:, 1] - without[name][:, 0]) for name, values_2 in whole.items()}


def adjusted(p_M: Sequence[float]) -> list[float]:
    """p-values of many tests, adjusted for their number; NaN is no test and stays NaN.

    Calling those of at most q significant keeps the expected share of false ones among them at q (Benjamini and Hochberg, Controlling
    the False Discovery Rate, 1995), for tests that are independent or positively dependent.
    """
    p = np.asarray(p_M, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(-p[tested], kind="stable")]
    scaled = p[order] * len(order) / np.arange(len(order), 0, -1)
    result = np.full(len(p), np.nan)
    result[order] = np.minimum.accumulate(scaled)
    return [float(value) for value in result]


def group_sums(counts_N: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """The counts summed within each group, shape (G, ...), groups sorted by name."""
    if len(groups) != len(counts_N) or not len(groups):
        raise ValueError(f"{len(counts_N)} samples and {len(groups)} groups: there must be one group a sample, and a sample")
    _, index_N = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts_G = np.zeros((index_N.max() + 1, *counts_N.shape[1:]), dtype=counts_N.dtype)
    np.add.at(counts_G, index_N, counts_N)
    return counts_G


def _collect(summary: Summary, pieces: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    found = [summary(totals) for totals in pieces]
    return {name: np.concatenate([np.asarray(part[name]) for part in found]) for name in found[0]}


def _resampled(counts_G: np.ndarray, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Summed counts of resamples, pieces of shape (r, ...) with at most about CHUNK_ELEMENTS numbers each.

    The draws are taken from the generator row by row, so their values do not depend on the size of the pieces.
    """
    number = len(counts_G)
    flat_GX = counts_G.reshape(number, -1).astype(np.float64)  # whole numbers below 2**53 stay exact in the product
    step = max(1, CHUNK_ELEMENTS // max(number, flat_GX.shape[1]))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn_rG = rng.integers(0, number, (rows, number))
        drawn_rG += np.arange(rows)[:, None] * number
        times_rG = np.bincount(drawn_rG.ravel(), minlength=rows * number).reshape(rows, number)
        yield (times_rG.astype(np.float64) @ flat_GX).reshape(rows, *counts_G.shape[1:])


def _swapped(counts_G2: np.ndarray, swaps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Summed counts of both models, shape (r, 2, ...), each time with the models' counts exchanged in a random half of the groups."""
    total_2X = counts_G2.sum(axis=0).reshape(2, -1).astype(np.float64)
    gap_GX = (counts_G2[:, 1] - counts_G2[:, 0]).reshape(len(counts_G2), -1).astype(np.float64)
    step = max(1, CHUNK_ELEMENTS // max(len(counts_G2), total_2X.size))
    for start in range(0, swaps, step):
        rows = min(step, swaps - start)
        moved_rX = rng.integers(0, 2, (rows, len(counts_G2))).astype(np.float64) @ gap_GX
        yield np.stack([total_2X[0] + moved_rX, total_2X[1] - moved_rX], axis=1).reshape(rows, *counts_G2.shape[1:])


def _p_value(swapped_R: np.ndarray, value: float) -> float:
    """The share of swaps whose difference is at least as great, the set itself counted as one; a swap without a value counts as such."""
    if np.isnan(value):
        return np.nan
    smaller = np.abs(swapped_R) < abs(value) - 1e-12 * max(1.0, abs(value))
    return float(1 + (~smaller).sum()) / (1 + len(swapped_R))


def _detectable(drawn_R: np.ndarray, left_out_G: np.ndarray) -> float:
    """z(97.5 %) + z(80 %) standard errors of the difference: where a normal test at 5 % has 80 % power."""
    from scipy.special import ndtri

    drawn_R = drawn_R[~np.isnan(drawn_R)]
    return float((ndtri((1 + LEVEL) / 2) + ndtri(POWER)) * drawn_R.std() * _rarity(drawn_R, left_out_G)) if drawn_R.size else np.nan


def _leave_one_out(counts_G: np.ndarray) -> Iterator[np.ndarray]:
    """Summed counts without each group in turn, in pieces."""
    total = counts_G.sum(axis=0)
    step = max(1, CHUNK_ELEMENTS // total.size)
    for start in range(0, len(counts_G), step):
        yield total - counts_G[start : start + step]


def _bca(drawn_R: np.ndarray, value: float, left_out_G: np.ndarray, level: float) -> tuple[float, float] | None:
    """The interval of one metric from its resampled values, its value and its values without each group.

    The bias z0 is how far the value is from the median of the resamples, in normal quantiles; the acceleration is the skewness of
    the groups' influence. A value beyond every resample is taken for half a resample from the end.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    drawn_R, left_out_G = drawn_R[~np.isnan(drawn_R)], left_out_G[~np.isnan(left_out_G)]
    if np.isnan(value) or not drawn_R.size or len(left_out_G) < 2:
        return None
    below = ((drawn_R < value).mean() + (drawn_R <= value).mean()) / 2
    z0 = ndtri(np.clip(below, 0.5 / drawn_R.size, 1 - 0.5 / drawn_R.size))
    influence_G = left_out_G.mean() - left_out_G
    spread = (influence_G**2).sum()
    acceleration = (influence_G**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    groups = len(left_out_G)
    half = stdtrit(groups - 1, (1 + level) / 2) * np.sqrt(groups / (groups - 1)) * _rarity(drawn_R, left_out_G)
    shifted_2 = z0 + np.array([-half, half])
    room_2 = np.maximum(1 - acceleration * shifted_2, 1e-9)  # beyond it lies the last resample
    low, high = np.quantile(drawn_R, ndtr(z0 + shifted_2 / room_2)).tolist()
    return low, high


def _rarity(drawn_R: np.ndarray, left_out_G: np.ndarray) -> float:
    """By how much the spread of resamples is too small: the square root of the jackknife's standard error over theirs, at least 1."""
    left_out_G = left_out_G[~np.isnan(left_out_G)]
    jackknife = np.sqrt((len(left_out_G) - 1) * left_out_G.var()) if left_out_G.size else 0.0
    spread = drawn_R.std()
    return float(np.sqrt(max(1.0, jackknife / spread))) if spread > 0 else 1.0
