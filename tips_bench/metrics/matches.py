"""Matches of points in pairs of images: shares that lie near enough to the truth, in percent.

A pair counts its points, and for each limit those whose error is within it. Shares are averaged in two ways, which differ where pairs have
different numbers of points: "image" is the mean over pairs of each pair's share, "point" the share of all points of all pairs together.

Keypoints (PCK, the percentage of correct keypoints): a limit is a fraction of a size in pixels that the protocol names, the longer side of
the object's box or of the image. "category" is the mean over categories of each one's share of points. Views of one scene: limits are
centimeters between two points of the scene, or pixels between their images; every pair weighs the same. "mean recall@cm" is the mean of the
recalls within 1, 2 and 5 cm, as DINOv3 reports it (arXiv 2508.10104, appendix D.3).

Axes: G groups (categories, or ranges of angles), A limits; the last axis, of 2A + 2, is points within each limit, shares of the pair's
points within each limit, points, pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

ALPHAS = (0.01, 0.05, 0.10, 0.15, 0.20)
CENTIMETERS = (1, 2, 5)
PIXELS = (5, 10, 20, 25, 40, 50, 80)
VIEW_LIMITS = (*(f"{limit}cm" for limit in CENTIMETERS), *(f"{limit}px" for limit in PIXELS))
MEAN_RECALL = "mean recall@cm"


def count(within_AK: np.ndarray, group: int, groups: int) -> np.ndarray:
    """The counts of one pair, float64 [G, 2A+2]. within_AK: whether each point is within each limit. A pair without points has shares 0."""
    within_A, points = within_AK.sum(1), within_AK.shape[1]
    counts = np.zeros((groups, 2 * len(within_AK) + 2))
    counts[group] = *within_A, *(within_A / max(points, 1)), points, 1
    return counts


def shares(counts_xF: np.ndarray, limit: int, by: str) -> np.ndarray:
    """Percent within a limit, shape ...: by "image" or "point"; NaN where there is nothing. Counts are [..., 2A+2]."""
    limits = (counts_xF.shape[-1] - 2) // 2
    part_x, whole_x = (counts_xF[..., limits + limit], counts_xF[..., -1]) if by == "image" else (counts_xF[..., limit], counts_xF[..., -2])
    return np.divide(100 * part_x, whole_x, out=np.full(np.shape(part_x), np.nan), where=whole_x > 0)


def mean_over_groups(values_xG: np.ndarray) -> np.ndarray:
    """The mean of those that are scored, shape ...; NaN where none is."""
    scored_xG = ~np.isnan(values_xG)
    number_x = scored_xG.sum(-1)
    return np.divide(np.where(scored_xG, values_xG, 0).sum(-1), number_x, out=np.full(number_x.shape, np.nan), where=number_x > 0)


def _of_group(limit: int, by: str, counts_xGF: np.ndarray) -> np.ndarray:
    return shares(np.asarray(counts_xGF, dtype=np.float64), limit, by)


class MatchCounts(SampleCounts):
    """Counts of pairs, in one of their groups each. limits: A."""

    dtype = np.float64
    limits: ClassVar[int]
    item = "pairs"

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> MatchCounts:
        """Of a set with these groups."""
        return cls((len(classes), 2 * cls.limits + 2))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        within_GA, points_G, pairs_G = counts[:, : self.limits], counts[:, -2], counts[:, -1]
        shares_GA = counts[:, self.limits : -2]
        wrong = (within_GA > points_G[:, None]).any() or not np.allclose(shares_GA * np.maximum(points_G, 1)[:, None], within_GA)
        if wrong or (counts < 0).any() or pairs_G.sum() != 1 or points_G[pairs_G == 0].any():
            raise UserError("the counts of a pair contradict each other", where=where)

    def compute(self) -> dict[str, float | np.ndarray]:
        """The metrics, and the values of each group."""
        return {**super().compute(), **{name: values(self.total()) for name, values in self.per_class.values()}}


class KeypointCounts(MatchCounts):
    """PCK at each of ALPHAS, by image, by point and by category."""

    limits = len(ALPHAS)
    specs: ClassVar[dict[str, MetricSpec]] = {f"{by} PCK@{alpha:.2f}": PERCENT for by in ("image", "point", "category") for alpha in ALPHAS}
    per_class: ClassVar[Mapping[str, Any]] = {
        f"{by} PCK@{alpha:.2f}": (f"{by} PCK@{alpha:.2f} of a category", partial(_of_group, limit, by))
        for by in ("image", "point")
        for limit, alpha in enumerate(ALPHAS)
    }
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {name: PERCENT for name, _ in per_class.values()}

    @staticmethod
    def summary(counts_xGF: np.ndarray, /) -> dict[str, np.ndarray]:
        """PCK in percent, shape ...; NaN where no pair has points."""
        counts_xGF = np.asarray(counts_xGF, dtype=np.float64)
        counts_xF = counts_xGF.sum(-2)
        found: dict[str, np.ndarray] = {}
        for limit, alpha in enumerate(ALPHAS):
            found |= {f"{by} PCK@{alpha:.2f}": shares(counts_xF, limit, by) for by in ("image", "point")}
            found[f"category PCK@{alpha:.2f}"] = mean_over_groups(shares(counts_xGF, limit, "point"))
        return {name: found[name] for name in KeypointCounts.specs}


class ViewCounts(MatchCounts):
    """Recall within centimeters and within pixels, the mean over pairs, and its mean over centimeters.

    Groups are ranges of the angle between the views.
    """

    limits = len(VIEW_LIMITS)
    specs: ClassVar[dict[str, MetricSpec]] = {name: PERCENT for name in (*(f"recall@{limit}" for limit in VIEW_LIMITS), MEAN_RECALL)}
    per_class: ClassVar[Mapping[str, Any]] = {
        f"recall@{limit}": (f"recall@{limit} by angle", partial(_of_group, number, "image")) for number, limit in enumerate(VIEW_LIMITS)
    }
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {name: PERCENT for name, _ in per_class.values()}

    @staticmethod
    def summary(counts_xGF: np.ndarray, /) -> dict[str, np.ndarray]:
        """Recall in percent, shape ...; NaN without pairs."""
        counts_xF = np.asarray(counts_xGF, dtype=np.float64).sum(-2)
        found = {f"recall@{limit}": shares(counts_xF, number, "image") for number, limit in enumerate(VIEW_LIMITS)}
        return found | {MEAN_RECALL: np.mean([found[f"recall@{limit}cm"] for limit in CENTIMETERS], 0)}
