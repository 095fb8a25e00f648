"""Classes as tables: which are hard for all models of a board, and which a model wins or loses against the others.

A model is compared, class by class, with the median of all other models of its board. The difference is paired: all models are scored on
the same resamples (see `ranking`), and its interval is the middle 95 % of them. No interval is corrected for the number of classes, and
none is shown of a class that fewer than `ENOUGH` groups of samples hold.

Axes: M models of a board, C classes, R resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tips_bench.leaderboard.charts import span
from tips_bench.leaderboard.ranking import Board, Entry, Interval
from tips_bench.leaderboard.versus import Duel
from tips_bench.metrics.spec import MetricSpec

ENOUGH = 10
COLUMNS = 8  # models in the table of a board
CONFUSED = 25  # classes in the table of confusions


@dataclass(frozen=True, eq=False)
class BoardClasses:
    """others_MC: the median of the other models. sure_2MC: ends of the paired interval of each model's lead on them, NaN = unknown."""

    values_MC: np.ndarray
    others_MC: np.ndarray
    sure_2MC: np.ndarray

    def duel(self, model: int, place: int, spec: MetricSpec) -> Duel | None:
        """A model against the others on a class; None where one of them has no score."""
        gain = float(spec.gain(self.values_MC[model, place], self.others_MC[model, place]))
        low, high = self.sure_2MC[:, model, place].tolist()
        return None if math.isnan(gain) else Duel(gain, None if math.isnan(low) else (low, high))


@dataclass(frozen=True)
class ClassRow:
    """One class of a record. samples: how many hold it. value: None = not scored. others, duel: None without other models."""

    label: str
    samples: int
    value: float | None
    sure: Interval | None
    others: float | None
    duel: Duel | None


def board_classes(board: Board) -> BoardClasses | None:
    """All models of a board, class by class; None where its family has no classes."""
    found = [entry.by_class for entry in board.entries if entry.by_class is not None]
    if not found:
        return None
    first, values_MC = found[0], np.stack([one.values_C for one in found])
    sure_2MC = np.full((2, *values_MC.shape), np.nan)
    if len(found) == 1:
        return BoardClasses(values_MC, np.full(values_MC.shape, np.nan), sure_2MC)
    for place in np.flatnonzero(first.groups_C >= ENOUGH):
        drawn_MR = np.stack([one.drawn_RC[:, place] for one in found])
        lead_MR = first.spec.gain(drawn_MR, median_of_others(drawn_MR))
        sure_2MC[:, :, place] = np.quantile(lead_MR, [0.025, 0.975], axis=1)
    return BoardClasses(values_MC, median_of_others(values_MC), sure_2MC)


def median_of_others(values_M: np.ndarray) -> np.ndarray:
    """For each of two models or more, along the first axis, the median of all others; NaN where a model has no value.

    Without one of its values, a sorted list has those behind it one place further to the front.
    """
    sorted_M = np.sort(values_M, axis=0)
    places_M = np.argsort(np.argsort(values_M, axis=0, kind="stable"), axis=0, kind="stable")
    others = len(values_M) - 1
    middle = [np.where(places_M <= place, sorted_M[place + 1], sorted_M[place]) for place in ((others - 1) // 2, others // 2)]
    return np.where(np.isnan(values_M).any(axis=0), np.nan, (middle[0] + middle[1]) / 2)


def board_table(board: Board, classes: BoardClasses | None) -> dict[str, Any] | None:
    """The classes of a board, the hardest for all first, with the best models' scores."""
    by_class = board.entries[0].by_class
    if by_class is None or classes is None:
        return None
    spec = by_class.spec
    rows: list[dict[str, Any]] = []
    for place, label in enumerate(by_class.labels):
        values = [value for value in classes.values_MC[:, place].tolist() if not math.isnan(value)]
        ends = sorted(values, key=spec.order)
        cells = [
            (_known(classes.values_MC[model, place]), _verdict(classes.duel(model, place, spec)))
            for model in range(len(board.entries[:COLUMNS]))
        ]
        middle = float(np.median(values)) if values else None
        row = {"label": label, "samples": int(by_class.samples_C[place]), "median": middle, "cells": cells}
        rows.append(row | {"best": ends[0] if ends else None, "worst": ends[-1] if ends else None})
    rows.sort(key=lambda row: math.inf if row["median"] is None else -spec.order(row["median"]))
    scale = span(classes.values_MC.ravel().tolist())
    entries, item = board.entries[:COLUMNS], _item(board.entries[0])
    return {"by_class": by_class, "item": item, "enough": ENOUGH, "entries": entries, "rows": rows, "scale": scale}


def record_table(entry: Entry, board: Board | None, classes: BoardClasses | None) -> dict[str, Any] | None:
    """The classes of a record, the hardest first; against the other models of its board where there are some."""
    by_class = entry.by_class
    if by_class is None:
        return None
    sure, rows = entry.classes.get(by_class.name, {}), []
    model = board.entries.index(entry) if board is not None else 0
    for place, label in enumerate(by_class.labels):
        enough = by_class.groups_C[place] >= ENOUGH
        others = _known(classes.others_MC[model, place]) if classes else None
        duel = classes.duel(model, place, by_class.spec) if classes else None
        value = _known(by_class.values_C[place])
        rows.append(ClassRow(label, int(by_class.samples_C[place]), value, sure.get(label) if enough else None, others, duel))
    rows.sort(key=lambda row: math.inf if row.value is None else -by_class.spec.order(row.value))
    return {
        "by_class": by_class,
        "item": _item(entry),
        "rows": rows,
        "enough": ENOUGH,
        "others": board is not None,
        "scale": (0.0, 100.0) if by_class.spec.unit == "%" else span(by_class.values_C.tolist()),
    }


def confusion_table(entry: Entry) -> dict[str, Any] | None:
    """Which class is taken for which, in percent of what is labeled: those classes that are confused most; None where counts do not say."""
    if entry.confusion_CC is None:
        return None
    counts_CC = entry.confusion_CC.astype(np.float64)
    wrong_CC = counts_CC - np.diag(np.diag(counts_CC))
    kept = np.sort(np.argsort(-(wrong_CC.sum(0) + wrong_CC.sum(1)), kind="stable")[:CONFUSED])
    labels, labeled_C = entry.record.dataset.classes, counts_CC.sum(axis=1)
    rows = [(labels[row], [100 * counts_CC[row, column] / labeled_C[row] for column in kept]) for row in kept if labeled_C[row]]
    return {"labels": [labels[place] for place in kept], "rows": rows, "left_out": len(labels) - len(kept)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _verdict(duel: Duel | None) -> str:
    return duel.verdict if duel else ""


def _item(entry: Entry) -> str:
    return entry.by_sample.item
