"""Ranked retrieval: average precision of queries, where some images of the database count neither as right nor as wrong.

Revisited Oxford and Paris (filipradenovic/revisitop be39832): `LandmarkCounts`. Each query has images that show its landmark clearly
(easy), images that show it in a hard way, and junk. Three settings take easy, easy and hard, or hard images as right and leave out the
rest of these three kinds before ranks are counted (python/example_evaluate.py:58-83). AP is the area under precision and recall by
trapezoids, the mean of the precision before and after each right image (python/evaluate.py:17-37). P@k divides by k, or by the rank of the
last right image where that is less (python/evaluate.py:101-106). A query without a right image in a setting is left out of it (:67-72).

AmsterTime (seyrankhademi/AmsterTime ec9af09) and sets like it: `RankedCounts`. AP is the sum of the precision at each right image among the
first images, over the number of right images that there is room for; with one right image it is 1 / rank (amstertime/eval.py:18-28).

Of equally near images those that are wrong come first; the sources leave their order to a sort that is not stable.

Axes: N images of the database, P right images, J images left out, S settings, G directions of search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

SETTINGS = ("easy", "medium", "hard")
KAPPAS = (1, 5, 10)
TOP = (1, 5)


def right_ranks(near_N: np.ndarray, right_P: np.ndarray, left_out_J: np.ndarray) -> np.ndarray:
    """Ranks from 0 of the right images, ascending, shape P, after those left out are gone.

    near_N: similarity of each image. right_P, left_out_J: rows of images; an image that is both is right.
    """
    wrong_N = np.ones(len(near_N), dtype=bool)
    wrong_N[left_out_J] = wrong_N[right_P] = False
    ascending = np.sort(near_N[wrong_N])
    descending_P = -np.sort(-near_N[right_P])
    return np.arange(len(right_P)) + len(ascending) - np.searchsorted(ascending, descending_P, side="left")


def trapezoid_precision(ranks_P: np.ndarray) -> float:
    """AP in 0..1 by trapezoids, of ranks from 0, ascending, of all right images; at least one."""
    places_P = np.arange(len(ranks_P), dtype=np.float64)
    before_P = np.divide(places_P, ranks_P, out=np.ones(len(ranks_P)), where=ranks_P > 0)
    return float((before_P + (places_P + 1) / (ranks_P + 1)).mean() / 2)


def plain_precision(ranks_P: np.ndarray, depth: int | None) -> float:
    """AP in 0..1 of the first `depth` images (None = all): precisions at right images over min(P, depth). At least one right image."""
    room = len(ranks_P) if depth is None else min(len(ranks_P), depth)
    inside = ranks_P if depth is None else ranks_P[ranks_P < depth]
    return float(((np.arange(len(inside)) + 1) / (inside + 1)).sum() / room)


def setting_counts(near_N: np.ndarray, easy_P: np.ndarray, hard_P: np.ndarray, junk_J: np.ndarray) -> np.ndarray:
    """counts_S5 of one query, float64: AP, P@1, P@5, P@10 and 1; zeros in a setting that has no right image. The arrays are rows."""
    every = np.concatenate([easy_P, hard_P, junk_J])
    counts_S5 = np.zeros((len(SETTINGS), 2 + len(KAPPAS)))
    for place, right_P in enumerate((easy_P, np.concatenate([easy_P, hard_P]), hard_P)):
        if len(right_P):
            ranks_P = right_ranks(near_N, right_P, every)
            depths = [min(int(ranks_P[-1]) + 1, kappa) for kappa in KAPPAS]
            counts_S5[place] = trapezoid_precision(ranks_P), *((ranks_P < depth).sum() / depth for depth in depths), 1
    return counts_S5


def direction_counts(near_N: np.ndarray, right_P: np.ndarray, depth: int | None, direction: int, directions: int) -> np.ndarray:
    """counts_G4 of one query, float64: AP, right at first, right among five, and 1. near_N: of the images that are searched."""
    counts_G4 = np.zeros((directions, 2 + len(TOP)))
    ranks_P = right_ranks(near_N, right_P, right_P[:0])
    found = [float((ranks_P < top).any()) for top in TOP]
    counts_G4[direction] = plain_precision(ranks_P, depth) if len(ranks_P) else 0.0, *found, 1
    return counts_G4


def _percent(sums_x: np.ndarray, queries_x: np.ndarray) -> np.ndarray:
    return 100 * ratio(sums_x, np.broadcast_to(queries_x, np.shape(sums_x)))


class LandmarkCounts(SampleCounts):
    """The counts_S5 of every query; mAP and mP@k of each setting in percent, means over its queries."""

    dtype: ClassVar[type] = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {
        f"{name}-{setting}": PERCENT for setting in SETTINGS for name in ("mAP", *(f"mP@{kappa}" for kappa in KAPPAS))
    }
    item = "queries"

    @staticmethod
    def summary(counts_xS5: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics in percent, shape ..., for summed counts of shape ...S5; NaN where a setting has no query."""
        counts_xS5 = np.asarray(counts_xS5, dtype=np.float64)
        values_xS4 = _percent(counts_xS5[..., :-1], counts_xS5[..., -1:])
        flat = np.moveaxis(values_xS4.reshape(*values_xS4.shape[:-2], -1), -1, 0)
        return dict(zip(LandmarkCounts.specs, flat, strict=True))

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> LandmarkCounts:
        """The same for every set."""
        return cls()

    def __init__(self) -> None:
        super().__init__((len(SETTINGS), 2 + len(KAPPAS)))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        queries_S1 = counts[:, -1:]
        if not np.isin(queries_S1, (0, 1)).all() or (counts < 0).any() or (counts > queries_S1).any():
            raise UserError("the counts of a query contradict each other", where=where, fix="Run the task again.")


def _direction_mean(column: int, counts_xG4: np.ndarray) -> np.ndarray:
    counts_xG4 = np.asarray(counts_xG4, dtype=np.float64)
    return _percent(counts_xG4[..., column], counts_xG4[..., -1])


class RankedCounts(SampleCounts):
    """The counts_G4 of every query; mAP, R@1 and R@5 in percent, means over all queries, and over those of each direction."""

    dtype: ClassVar[type] = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = {"mAP": PERCENT, "R@1": PERCENT, "R@5": PERCENT}
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {f"direction {name}": PERCENT for name in ("mAP", "R@1", "R@5")}
    per_class: ClassVar[Mapping[str, Any]] = {
        name: (f"direction {name}", partial(_direction_mean, column)) for column, name in enumerate(("mAP", "R@1", "R@5"))
    }
    item = "queries"

    @staticmethod
    def summary(counts_xG4: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics in percent, shape ..., for summed counts of shape ...G4; NaN without queries."""
        every_x4 = np.asarray(counts_xG4, dtype=np.float64).sum(-2)
        return {name: _percent(every_x4[..., column], every_x4[..., -1]) for column, name in enumerate(RankedCounts.specs)}

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> RankedCounts:
        """Of a set with these directions of search."""
        return cls(len(classes))

    def __init__(self, directions: int) -> None:
        super().__init__((directions, 2 + len(TOP)))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        queries_G1 = counts[:, -1:]
        if queries_G1.sum() != 1 or (counts < 0).any() or (counts > queries_G1).any():
            raise UserError("the counts of a query contradict each other", where=where, fix="Run the task again.")

    def compute(self) -> dict[str, float | np.ndarray]:
        """The means over all queries, and those of each direction."""
        total = self.total()
        return {**super().compute(), **{kind: of(total) for kind, of in self.per_class.values()}}
