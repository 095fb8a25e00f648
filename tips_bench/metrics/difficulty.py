"""PCK of keypoint pairs by how difficult SPair-71k's annotation says a pair is, in percent.

Each pair has a level of four kinds: how much the viewpoint and the scale differ, and which of both objects is truncated or occluded
(Min et al., arXiv:1908.10543). "image" is the mean over pairs of each pair's share of points. "category" is the mean of each category's
share of points, over the categories that have pairs of the level: so mbanani/probe3d a1f1464 gives it for viewpoints
(evaluate_spair_correspondence.py:141-174).

Axes: K points of a pair, A limits of tips_bench.metrics.matches, L levels of all kinds, G categories; the axis of 4 is points within the
limit, their share of the pair's points, points, pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.matches import ALPHAS, mean_over_groups, shares
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

ALPHA = 0.10
VARIATION, SIDES = ("easy", "medium", "hard"), ("none", "source", "target", "both")
KINDS = {"viewpoint": VARIATION, "scale": VARIATION, "truncation": SIDES, "occlusion": SIDES}
LEVELS = [f"{kind} {level}" for kind, levels in KINDS.items() for level in levels]
FIRST = np.cumsum([0, *(len(levels) for levels in KINDS.values())])[:-1]  # of each kind in LEVELS


def count(within_AK: np.ndarray, difficulty: Sequence[int], category: int, categories: int) -> np.ndarray:
    """counts_LG4 of one pair, float64. difficulty: the number of its level in each of KINDS."""
    within_K = within_AK[ALPHAS.index(ALPHA)]
    counts_LG4 = np.zeros((len(LEVELS), categories, 4))
    counts_LG4[FIRST + difficulty, category] = within_K.sum(), within_K.sum() / max(len(within_K), 1), len(within_K), 1
    return counts_LG4


class DifficultyCounts(SampleCounts):
    """The counts_LG4 of every pair."""

    dtype = np.float64
    item = "pairs"
    families = ("keypoint-matching",)
    specs: ClassVar[dict[str, MetricSpec]] = {f"{by} PCK@{ALPHA:.2f} {level}": PERCENT for by in ("image", "category") for level in LEVELS}

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> DifficultyCounts:
        """Of a set with these categories."""
        return cls((len(LEVELS), len(classes), 4))

    def observe(self, prediction: np.ndarray, sample: Any, *, where: object) -> np.ndarray:
        """prediction: bool within_AK. sample: a KeypointPair. Errors: data that tell no difficulty."""
        if sample.difficulty is None:
            raise UserError("the data do not say how difficult a pair is", where=where, fix="Leave the metric difficulty out.")
        return count(prediction, sample.difficulty, sample.kind, self.shape[1])

    def check(self, counts: np.ndarray, *, where: object) -> None:
        within_LG, shares_LG, points_LG, pairs_LG = np.moveaxis(counts, -1, 0)
        wrong = not np.allclose(shares_LG * np.maximum(points_LG, 1), within_LG) or (within_LG > points_LG).any()
        if wrong or (counts < 0).any() or (np.add.reduceat(pairs_LG.sum(1), FIRST) != 1).any():
            raise UserError("the counts of a pair's difficulty contradict each other", where=where)

    @staticmethod
    def summary(counts_xLG4: np.ndarray, /) -> dict[str, np.ndarray]:
        """PCK in percent of each level, shape ...; NaN where no pair has it."""
        counts_xLG4 = np.asarray(counts_xLG4, dtype=np.float64)
        values_xL = {"image": shares(counts_xLG4.sum(-2), 0, "image"), "category": mean_over_groups(shares(counts_xLG4, 0, "point"))}
        return {f"{by} PCK@{ALPHA:.2f} {level}": values_xL[by][..., row] for by in values_xL for row, level in enumerate(LEVELS)}
