"""How sure a score is: bootstrap percentile intervals of data-set metrics, from the counts of each sample.

Samples are drawn with replacement and the metric of their summed counts is taken, many times; the middle 95 % of those values is the
interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3). Where samples of a group (the views of one
scene, the frames of one video) are not independent, whole groups are drawn: the cluster bootstrap. A data-set metric is a function of
the summed counts, so a resample is a vector of how often each group was drawn, and all resamples are one matrix product.

The interval says how much the score would move with other test images of the same kind. It says nothing about other training
images or seeds. It speaks of the classes that the set holds: where many classes occur in a handful of images only, their IoU is
biased and the interval of mIoU is too narrow, as any resampling of those few images must be.

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

    counts_N: the counts of each sample, shape (N, ...), in an order that does not depend on the run, such as sorted ids.
    groups: of each sample, its own id where samples are independent. summary: summed counts of shape (R, ...) -> name -> values
    of shape (R,), NaN where a resample has no value; those resamples are left out of that metric's interval.
    The same counts, groups and seed give the same interval, in any order of the groups' names.
    """
    if len(set(groups)) < 2:
        return dict.fromkeys(summary(counts_N.sum(axis=0, keepdims=True)))
    tail = (1 - level) / 2
    found: dict[str, tuple[float, float] | None] = {}
    for name, values_R in replicates(counts_N, groups, summary, resamples=resamples, seed=seed).items():
        scored_R = values_R[~np.isnan(values_R)]
        low, high = np.quantile(scored_R, [tail, 1 - tail]).tolist() if scored_R.size else (np.nan, np.nan)
        found[name] = (low, high) if scored_R.size else None
    return found


def replicates(
    counts_N: np.ndarray, groups: Sequence[str], summary: Summary, *, resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Metric name -> its value on each resample, shape (R,).

    The same seed and groups draw the same samples for every model, so two models' values can be paired.
    """
    if len(groups) != len(counts_N) or not len(groups):
        raise ValueError(f"{len(counts_N)} samples and {len(groups)} groups: there must be one group a sample, and a sample")
    counts_G = group_sums(counts_N, groups)
    pieces = [summary(totals_R) for totals_R in _resampled(counts_G, resamples, np.random.default_rng(seed))]
    return {name: np.concatenate([np.asarray(piece[name]) for piece in pieces]) for name in pieces[0]}


def group_sums(counts_N: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """The counts summed within each group, shape (G, ...), groups sorted by name."""
    _, index_N = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts_G = np.zeros((index_N.max() + 1, *counts_N.shape[1:]), dtype=counts_N.dtype)
    np.add.at(counts_G, index_N, counts_N)
    return counts_G


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
