"""How sure a score is: bootstrap intervals of data-set metrics, from the counts of each sample.

Samples are drawn with replacement and the metric of their summed counts is taken, many times. Where samples of a group (the views of
one scene, the frames of one video) are not independent, whole groups are drawn: the cluster bootstrap. A data-set metric is a function
of the summed counts, so a resample is a vector of how often each group was drawn, and all resamples are one matrix product.

The interval is the bias-corrected and accelerated one, BCa (Efron, Better Bootstrap Confidence Intervals, 1987), as in
scipy.stats.bootstrap. The plain percentiles will not do: the mean IoU of a finite set is biased upward by its rare classes, a resample
doubles the bias, and the plain interval moves the wrong way.

The interval says how much the score would move with other test images of the same kind. It says nothing about other training
images or seeds, and it speaks of the classes that the set holds.

Axes: N samples, G groups, R resamples; the axes of one sample's counts follow (3C for segmentation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Summary = Callable[[np.ndarray], Mapping[str, np.ndarray]]
CHUNK_ELEMENTS = 1 << 22


def intervals(
    counts_N: np.ndarray, groups: Sequence[str], summary: Summary, *, resamples: int = 2000, seed: int = 0, level: float = 0.95
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
    from scipy.special import ndtr, ndtri

    drawn_R, left_out_G = drawn_R[~np.isnan(drawn_R)], left_out_G[~np.isnan(left_out_G)]
    if np.isnan(value) or not drawn_R.size or not left_out_G.size:
        return None
    below = ((drawn_R < value).mean() + (drawn_R <= value).mean()) / 2
    z0 = ndtri(np.clip(below, 0.5 / drawn_R.size, 1 - 0.5 / drawn_R.size))
    influence_G = left_out_G.mean() - left_out_G
    spread = (influence_G**2).sum()
    acceleration = (influence_G**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    shifted_2 = z0 + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(drawn_R, ndtr(z0 + shifted_2 / (1 - acceleration * shifted_2))).tolist()
    return low, high
