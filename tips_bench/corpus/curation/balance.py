"""A balanced draw from a tree of clusters, from the top: each cluster of a level gets as many images as any other, or all that it has.

Vo et al., arXiv 2405.15613, section 3: of all shares n, that one is taken with which the clusters give as many as are wanted; inside the
lowest clusters images are drawn at random. What whole shares leave open is drawn one for each cluster, so that the number is met.

Axes: N images, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tips_bench.corpus.curation.hierarchy import Level


def draw(levels: Sequence[Level], wanted: int, seed: int) -> np.ndarray:
    """Ascending rows of the images drawn: `wanted` of them, or all where there are not more."""
    sizes = _sizes(levels)
    rng = np.random.default_rng([seed, len(levels)])
    top = len(levels) - 1
    share_K = shares(sizes[top], wanted, rng)
    for number in range(top, 0, -1):
        below_K = np.zeros(len(sizes[number - 1]), np.int64)
        for cluster, members in _members(levels[number].parent_N, len(share_K)):
            below_K[members] = shares(sizes[number - 1][members], int(share_K[cluster]), rng)
        share_K = below_K
    chosen = [np.zeros(0, np.int64)]
    for cluster, members in _members(levels[0].parent_N, len(share_K)):
        chosen.append(rng.permutation(members)[: share_K[cluster]])
    return np.sort(np.concatenate(chosen))


def shares(sizes_K: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """[K] how many each cluster gives: all the same number n, or all that it has, and one more of clusters drawn where that is needed."""
    wanted = min(wanted, int(sizes_K.sum()))
    low, high = 0, int(sizes_K.max(initial=0))
    while low < high:  # the greatest n with which they do not give too many
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(np.minimum(sizes_K, middle).sum()) <= wanted else (low, middle - 1)
    share_K = np.minimum(sizes_K, low)
    more = np.flatnonzero(sizes_K > low)
    share_K[rng.permutation(more)[: wanted - int(share_K.sum())]] += 1
    return share_K


def _sizes(levels: Sequence[Level]) -> list[np.ndarray]:
    """Of each level, the number of images under each cluster."""
    sizes = [np.bincount(levels[0].parent_N, minlength=len(levels[0].centroids_KD))]
    for level in levels[1:]:
        sizes.append(np.bincount(level.parent_N, weights=sizes[-1], minlength=len(level.centroids_KD)).astype(np.int64))
    return sizes


def _members(parent_N: np.ndarray, clusters: int) -> list[tuple[int, np.ndarray]]:
    """(cluster, ascending rows under it) of each cluster that has any."""
    order = np.argsort(parent_N, kind="stable")
    ends = np.searchsorted(parent_N[order], np.arange(clusters + 1))
    return [(cluster, order[ends[cluster] : ends[cluster + 1]]) for cluster in range(clusters) if ends[cluster] < ends[cluster + 1]]
