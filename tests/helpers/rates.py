"""Simulated sets of which the truth is known, and how often intervals and tests are right about them.

Axes: N samples, 2 the pair of models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.helpers.scored_records import names, pair
from tips_bench.metrics.segmentation import summary as segmentation
from tips_bench.results.statistics import Summary, adjusted, differences, intervals


@dataclass(frozen=True)
class World:
    """draw: counts of both models on a new set, (N, 2, ...), and the samples' groups. a, difference: the truths of `metric`."""

    metric: str
    summary: Summary
    draw: Callable[[np.random.Generator], tuple[np.ndarray, list[str]]]
    a: float
    difference: float


@dataclass(frozen=True)
class Rates:
    """Shares of sets: whose interval of A and of B - A hold the truth, and whose p is at most 5 %."""

    score: float
    difference: float
    rejected: float


def rates(world: World, trials: int, *, seed: int = 0, resamples: int = 1000, swaps: int = 999) -> Rates:
    """Count over new sets of a world."""
    rng = np.random.default_rng(seed)
    found = np.zeros((trials, 3))
    for row in found:
        counts_N2, groups = world.draw(rng)
        score = intervals(counts_N2[:, 0], groups, world.summary, resamples=resamples)[world.metric]
        difference = differences(counts_N2, groups, world.summary, resamples=resamples, swaps=swaps, seed=int(rng.integers(1 << 30)))[
            world.metric
        ]
        row[:] = score[0] <= world.a <= score[1], difference.interval[0] <= world.difference <= difference.interval[1], difference.p <= 0.05
    return Rates(*found.mean(axis=0).tolist())


def rejected(world: World, trials: int, *, seed: int = 1) -> float:
    """The share of new sets whose p is at most 5 %, without the intervals, which cost the most."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(trials):
        counts_N2, groups = world.draw(rng)
        one = differences(counts_N2, groups, world.summary, resamples=2, swaps=199, seed=int(rng.integers(1 << 30)))[world.metric]
        found += one.p <= 0.05
    return found / trials


def mean_iou(number: int, classes: int, *, drop: float = 0.0, groups: int | None = None) -> World:
    """Segmentation with rare, hard classes; truths from 800,000 images, that of no drop by symmetry."""
    rng = np.random.default_rng(1234)
    total_2 = np.sum([pair(rng, 40_000, classes, drop=drop).sum(axis=0) for _ in range(20)], axis=0)
    values_2 = segmentation(total_2)["mIoU"]
    labels = names(number) if groups is None else [f"scene-{index % groups:03}" for index in range(number)]
    a = float(values_2.mean() if drop == 0 else values_2[0])
    difference = float(values_2[1] - values_2[0]) if drop else 0.0
    return World("mIoU", segmentation, lambda rng: (pair(rng, number, classes, drop=drop, groups=groups), labels), a, difference)


def unlike_accuracy(number: int, classes: int = 10) -> World:
    """Two models of the same true pixel accuracy that are not alike: A is better on even classes, B on odd ones, all equally frequent."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        label_N = rng.integers(0, classes, number)
        better_N2 = np.stack([label_N % 2 == 0, label_N % 2 == 1], axis=1)
        level_N = rng.normal(0.6, 0.1, number)
        share_N2 = level_N[:, None] + np.where(better_N2, 0.08, -0.08) + rng.normal(0, [0.02, 0.10], (number, 2))
        hits_N2 = np.clip(np.round(100 * share_N2), 0, 100).astype(np.int64)
        counts_N23C = np.zeros((number, 2, 3, classes), dtype=np.int64)
        counts_N23C[np.arange(number), :, 0, label_N] = hits_N2
        counts_N23C[np.arange(number), :, 1:, label_N] = 100
        return counts_N23C, names(number)

    return World("aAcc", segmentation, draw, 60.0, 0.0)


def rmse(number: int) -> World:
    """Depth: squared errors pooled over pixels, log-normal over images with a heavy tail; truths in closed form."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        pixels_N = rng.integers(500, 1500, number)
        hard_N = rng.normal(0, 0.7, number)
        mean_N2 = np.exp(hard_N[:, None] + rng.normal(0, 0.3, (number, 2)))
        squares_N2 = np.round(10_000 * mean_N2 * pixels_N[:, None]).astype(np.int64)
        return np.stack([squares_N2, np.broadcast_to(pixels_N[:, None], (number, 2))], axis=-1), names(number)

    def summary(counts_x2: np.ndarray) -> dict[str, np.ndarray]:
        return {"RMSE": np.sqrt(counts_x2[..., 0] / (10_000 * counts_x2[..., 1]))}

    return World("RMSE", summary, draw, float(np.sqrt(np.exp((0.49 + 0.09) / 2))), 0.0)


def recall(images: int) -> World:
    """Retrieval: five captions of each image find it or not, more often for an easy image; captions of an image are one group."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        easy_N2 = rng.beta(3, 2, images)[:, None].repeat(2, axis=1)
        hits_N52 = (rng.random((images, 5, 2)) < easy_N2[:, None]).astype(np.int64)
        counts_N2 = np.stack([hits_N52, np.ones_like(hits_N52)], axis=-1).reshape(images * 5, 2, 2)
        return counts_N2, np.repeat(names(images), 5).tolist()

    return World("R@1", lambda counts: {"R@1": 100.0 * counts[..., 0] / counts[..., 1]}, draw, 60.0, 0.0)


def false_discoveries(families: int, *, tests: int = 60, changed: int = 15, seed: int = 0) -> tuple[float, float]:
    """(false discovery rate, power) at 5 % over families of paired tests of which `changed` have a true difference."""
    rng = np.random.default_rng(seed)
    false, found = [], []
    for _ in range(families):
        p = []
        for index in range(tests):
            values_N2 = rng.normal(60, 10, 40)[:, None] + rng.normal(0, 5, (40, 2))
            values_N2[:, 1] += 4 if index < changed else 0
            hits_N2 = np.clip(np.round(values_N2), 0, 100).astype(np.int64)
            counts_N2 = np.stack([hits_N2, np.full_like(hits_N2, 100)], axis=-1)
            p.append(differences(counts_N2, names(40), _share, resamples=2, swaps=1999, seed=int(rng.integers(1 << 30)))["share"].p)
        called = np.array(adjusted(p)) <= 0.05
        false.append(called[changed:].sum() / max(1, called.sum()))
        found.append(called[:changed].mean())
    return float(np.mean(false)), float(np.mean(found))


def _share(counts_x2: np.ndarray) -> dict[str, np.ndarray]:
    return {"share": counts_x2[..., 0] / counts_x2[..., 1]}
