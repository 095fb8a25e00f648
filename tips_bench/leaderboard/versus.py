"""Model against model: paired differences on the boards that both stand on, and a model against its own earlier versions.

All models of a board are scored on the same resamples (see `ranking`), so a difference of resamples is paired: what makes an image hard
for both models cancels. Intervals are the middle 95 % of 500 such differences. They are not corrected for the number of differences that
a page shows; `tips-bench compare` makes the exact test of two records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tips_bench.leaderboard.ranking import Board, Entry, Interval

RIVALS = 20  # on the page of a model: those next to it in the order
GRID = 30  # models of the grid of all against all


@dataclass(frozen=True)
class Duel:
    """By how much the first model beats the second on a board, in the unit of its metric: positive is better. sure: None = unknown."""

    gain: float
    sure: Interval | None

    @property
    def verdict(self) -> str:
        """ "better" or "worse" where the interval leaves zero out, else ""."""
        if self.sure is None or self.sure[0] <= 0 <= self.sure[1]:
            return ""
        return "better" if self.sure[0] > 0 else "worse"


@dataclass(frozen=True)
class Match:
    """A model against a rival. duels: one a board, None where they do not both have a score."""

    rival: str
    duels: list[Duel | None]

    def count(self, verdict: str) -> int:
        """On how many boards that is the verdict."""
        return sum(duel is not None and duel.verdict == verdict for duel in self.duels)


@dataclass(frozen=True)
class Version:
    """A record of a model with, where an earlier one stands on the same board, the paired change since."""

    board: Board
    entry: Entry
    change: Duel | None


def neighbours(order: Sequence[str], label: str, number: int = RIVALS) -> list[str]:
    """The labels next to `label` in the order, without it, at most `number`, in that order."""
    place = order.index(label)
    start = max(0, min(place - number // 2, len(order) - number - 1))
    return [one for one in order[start : start + number + 1] if one != label]


def matches(found: Sequence[Board], label: str, rivals: Sequence[str]) -> list[Match]:
    """`label` against each of the rivals, on all boards."""
    columns = [_duels(board, label, rivals) for board in found]
    return [Match(rival, [column.get(rival) for column in columns]) for rival in rivals]


def grid(found: Sequence[Board], order: Sequence[str]) -> list[tuple[str, list[Match | None]]]:
    """The first `GRID` models of the order, all against all; None against itself."""
    labels = list(order[:GRID])
    rows = []
    for label in labels:
        by_rival = {match.rival: match for match in matches(found, label, labels)}
        rows.append((label, [None if rival == label else by_rival[rival] for rival in labels]))
    return rows


def history(found: Iterable[Board], model: str) -> list[Version]:
    """The records of a model that stands on a board more than once, the oldest first; seeds and precisions are versions too."""
    versions = []
    for board in found:
        mine = sorted((e for e in board.entries if e.record.model_name == model), key=lambda e: (e.record.created, e.id))
        if len(mine) > 1:
            changes = [_duels(board, new.label, [old.label]).get(old.label) for old, new in pairwise(mine)]
            versions += [Version(board, entry, change) for entry, change in zip(mine, [None, *changes], strict=True)]
    return versions


def _duels(board: Board, label: str, rivals: Sequence[str]) -> Mapping[str, Duel]:
    """rival -> duel, of those with a score."""
    mine = board.by_label.get(label)
    others = [board.by_label[rival] for rival in rivals if rival in board.by_label and rival != label]
    others = [other for other in others if not math.isnan(other.metric.value)]
    if mine is None or math.isnan(mine.metric.value) or not others:
        return {}
    spec = board.metric.spec
    gain_RM = spec.gain(mine.drawn_R[:, None], np.stack([other.drawn_R for other in others], axis=1))
    return {
        other.label: Duel(float(spec.gain(mine.metric.value, other.metric.value)), sure)
        for other, sure in zip(others, _intervals(gain_RM), strict=True)
    }


def _intervals(gain_RM: np.ndarray) -> list[Interval | None]:
    """Of each column; None where a resample has no score."""
    low_M, high_M = np.quantile(gain_RM, [0.025, 0.975], axis=0).tolist()
    return [None if math.isnan(low) else (low, high) for low, high in zip(low_M, high_M, strict=True)]
