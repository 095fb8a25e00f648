"""Hierarchical k-means: clusters of images, clusters of their centroids, and so on.

k-means puts many centroids where there are many points. So that they spread over what there is rather than over how often it is there,
each level is clustered again from the points nearest to each centroid alone, some rounds long, and the next level sees the centroids as
its points (Vo et al., arXiv 2405.15613, section 3; written from the paper).

A level has `most_clusters` at most. Above that, its centroids are found from a random sample of `members` points for each, which is held in
memory, and then every point gets its nearest centroid: work that grows with the number of points, in one pass over them.

Axes: N points of a level, K clusters, D features, r nearest points of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.corpus.curation.card import BalanceCard
from tips_bench.corpus.curation.kmeans import Assignment, Points, assign, kmeans
from tips_bench.npz import read_npz, save_npz


@dataclass(frozen=True)
class Level:
    """centroids_KD: float32. parent_N: the cluster of each point of the level below."""

    centroids_KD: np.ndarray
    parent_N: np.ndarray


def build(points: Points, card: BalanceCard, seed: int, folder: Path) -> list[Level]:
    """The levels, the lowest first, each kept in a file of the folder once it is made. The last one may have a single cluster."""
    levels: list[Level] = []
    for number, members in enumerate(card.members):
        wanted = max(1, points.count // members)
        clusters = min(wanted, card.most_clusters)
        file = folder / f"level-{number}.npz"
        if not file.is_file():
            rng = np.random.default_rng([seed, number])
            few = points if clusters == wanted else _sample(points, clusters * members, rng)
            made = _level(points, few, clusters, card, rng)
            save_npz(file, centroids_KD=made.centroids_KD, parent_N=made.parent_N)
        level = read_npz(file, "level of clusters", lambda data: Level(data["centroids_KD"], data["parent_N"]))
        levels.append(level)
        points = Points.of(level.centroids_KD)
        if clusters == 1:
            break
    return levels


def _sample(points: Points, count: int, rng: np.random.Generator) -> Points:
    """So many of them, drawn evenly, in memory."""
    return Points.of(points.at(np.sort(rng.choice(points.count, count, replace=False))))


def _level(points: Points, few: Points, clusters: int, card: BalanceCard, rng: np.random.Generator) -> Level:
    """few: the points that the centroids are found from."""
    centroids_KD = kmeans(few, clusters, card.iterations, rng)
    for _ in range(card.rounds):
        rows = nearest_members(assign(few, centroids_KD), card.nearest)
        centroids_KD = kmeans(Points.of(few.at(rows)), min(clusters, len(rows)), card.iterations, rng)
    return Level(centroids_KD, assign(points, centroids_KD).cluster_N)


def nearest_members(found: Assignment, number: int) -> np.ndarray:
    """Ascending rows of the `number` points of each cluster that are nearest to its centroid."""
    order = np.lexsort((np.arange(len(found.cluster_N)), found.distance_N, found.cluster_N))
    sorted_N = found.cluster_N[order]
    _, begins, sizes = np.unique(sorted_N, return_index=True, return_counts=True)
    rank_N = np.arange(len(order)) - np.repeat(begins, sizes)
    return np.sort(order[rank_N < number])
