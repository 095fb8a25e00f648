"""k-means over more points than the memory holds: they are read in blocks, once an iteration.

Sums are taken in float64 and in the order of the points, so the same machine gives the same centroids. Only the assignment of a block is
held: [n,K] distances.

Axes: N points, n points of a block, D features, K clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_VALUES = 1 << 24  # distances at once: 64 MiB
BLOCK_ROWS = 1 << 16  # points at once, of those that are in memory
SEEDED = 1 << 14  # points that the first centroids are drawn from, or eight for each cluster where that is more
MOST_SEEDED = 1 << 12  # clusters; the work of k-means++ grows with their square, so more start from points drawn evenly


@dataclass(frozen=True)
class Points:
    """count: N. blocks: called for a pass over the points in their order, [n,D] float32 each. dim: D."""

    count: int
    dim: int
    blocks: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, points_ND: np.ndarray) -> Points:
        """Points that are in memory."""
        starts = range(0, max(1, len(points_ND)), BLOCK_ROWS)
        return cls(len(points_ND), points_ND.shape[1], lambda: (points_ND[start : start + BLOCK_ROWS] for start in starts))

    def at(self, rows: np.ndarray) -> np.ndarray:
        """[n,D] the points of ascending rows."""
        found, start = [np.zeros((0, self.dim), np.float32)], 0
        for block_nD in self.blocks():
            first, behind = np.searchsorted(rows, [start, start + len(block_nD)])
            found.append(block_nD[rows[first:behind] - start])
            start += len(block_nD)
        return np.concatenate(found)


@dataclass(frozen=True)
class Assignment:
    """cluster_N: int32, the nearest centroid of each point. distance_N: float32, squared, to it."""

    cluster_N: np.ndarray
    distance_N: np.ndarray


def kmeans(points: Points, clusters: int, iterations: int, rng: np.random.Generator, start_KD: np.ndarray | None = None) -> np.ndarray:
    """[K,D] float32 centroids by Lloyd's algorithm, from k-means++ on a sample of the points, or from `start_KD`.

    A cluster without points gets the point that is farthest from its centroid. Ends early when no centroid moves.
    """
    centroids_KD = _seeds(points, clusters, rng) if start_KD is None else start_KD
    for _ in range(iterations):
        moved_KD = _step(points, centroids_KD)
        if np.array_equal(moved_KD, centroids_KD):
            break
        centroids_KD = moved_KD
    return centroids_KD


def assign(points: Points, centroids_KD: np.ndarray) -> Assignment:
    """The nearest centroid of every point, the first of equal ones."""
    found = [nearest(block_nD, centroids_KD) for block_nD in points.blocks()]
    clusters, distances = zip(*found, strict=True) if found else ([np.zeros(0, np.int32)], [np.zeros(0, np.float32)])
    return Assignment(np.concatenate(clusters), np.concatenate(distances))


def nearest(block_nD: np.ndarray, centroids_KD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cluster_n int32, distance_n float32, squared) of the points of a block."""
    halves_K = (centroids_KD.astype(np.float64) ** 2).sum(1).astype(np.float32) / 2
    step = max(1, BLOCK_VALUES // max(1, len(centroids_KD)))
    clusters = [np.zeros(0, np.int32)]
    for start in range(0, len(block_nD), step):
        clusters.append((block_nD[start : start + step] @ centroids_KD.T - halves_K).argmax(1).astype(np.int32))
    cluster_n = np.concatenate(clusters)
    return cluster_n, ((block_nD - centroids_KD[cluster_n]) ** 2).sum(1)


def _seeds(points: Points, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each further seed is drawn by the squared distance to the nearest one so far. Of more than MOST_SEEDED, any points."""
    if clusters > MOST_SEEDED:
        return points.at(np.sort(rng.choice(points.count, clusters, replace=False)))
    number = min(points.count, max(SEEDED, 8 * clusters))
    sample_nD = points.at(np.sort(rng.choice(points.count, number, replace=False)))
    chosen = [int(rng.integers(number))]
    distance_n = ((sample_nD - sample_nD[chosen[0]]) ** 2).sum(1).astype(np.float64)
    for _ in range(clusters - 1):
        total_n = distance_n.cumsum()
        chosen.append(int(np.searchsorted(total_n, rng.random() * total_n[-1], side="right").clip(max=number - 1)))
        distance_n = np.minimum(distance_n, ((sample_nD - sample_nD[chosen[-1]]) ** 2).sum(1))
    return sample_nD[chosen]


def _step(points: Points, centroids_KD: np.ndarray) -> np.ndarray:
    """The means of the points of each cluster."""
    clusters = len(centroids_KD)
    sums_KD, counts_K = np.zeros(centroids_KD.shape, np.float64), np.zeros(clusters, np.int64)
    far_M, far_MD = np.zeros(0, np.float32), np.zeros((0, points.dim), np.float32)  # the farthest points so far, at most K
    for block_nD in points.blocks():
        cluster_n, distance_n = nearest(block_nD, centroids_KD)
        order = np.argsort(cluster_n, kind="stable")
        present, starts = np.unique(cluster_n[order], return_index=True)
        if len(present):
            sums_KD[present] += np.add.reduceat(block_nD[order].astype(np.float64), starts, axis=0)
        counts_K += np.bincount(cluster_n, minlength=clusters)
        farthest = np.argsort(-distance_n, kind="stable")[:clusters]
        distances, rows = np.concatenate([far_M, distance_n[farthest]]), np.concatenate([far_MD, block_nD[farthest]])
        kept = np.argsort(-distances, kind="stable")[:clusters]
        far_M, far_MD = distances[kept], rows[kept]
    empty = np.flatnonzero(counts_K == 0)[: len(far_MD)]
    means_KD = (sums_KD / np.maximum(counts_K, 1)[:, None]).astype(np.float32)
    means_KD[empty] = far_MD[: len(empty)]
    return means_KD
