"""Samples as tables: a record's hardest and easiest, where it differs from the other models, and all models of a board side by side.

A sample's score is the primary metric of this sample alone. Sets are large, so pages show a choice of samples, and say which.

Axes: N samples, M models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np

from tips_bench.leaderboard.ranking import Board, Entry
from tips_bench.leaderboard.site_files import file_name

SHOWN = 10  # of each kind on the page of a record
MODELS = 20  # on the page of a board, the best
DIFFERENT, HARD = 150, 100  # samples on the page of a board: those on which its models differ most, and the hardest for all
DRAWN = 8  # samples with pictures
SHADES = 10
Pictures = Mapping[str, str]  # sample id -> address of its picture


@dataclass(frozen=True, eq=False)
class BoardSums:
    """Of the scores of all models of a board on each sample: their sum, and how many have one."""

    total_N: np.ndarray
    number_N: np.ndarray

    @classmethod
    def of(cls, board: Board) -> BoardSums:
        """Of these entries."""
        values_MN = np.stack([entry.by_sample.values_N for entry in board.entries])
        return cls(np.nansum(values_MN, axis=0), (~np.isnan(values_MN)).sum(axis=0))

    def mean(self) -> np.ndarray:
        """Over the models, NaN where none has a score."""
        return _mean(self.total_N, self.number_N)

    def mean_without(self, values_N: np.ndarray) -> np.ndarray:
        """Over the models but the one with these scores."""
        return _mean(self.total_N - np.nan_to_num(values_N), self.number_N - ~np.isnan(values_N))


@dataclass(frozen=True)
class SampleRow:
    """One sample of a record. others: the mean of the other models, None without any. gain: the record's lead on it."""

    id: str
    group: str
    value: float
    others: float | None
    gain: float | None
    picture: str | None


def samples_href(board: Board) -> str:
    """The page of a board's samples."""
    return f"samples/{file_name(f'{board.task}-{board.protocol}-{board.key[:8]}')}.html"


def pair_href(board: Board, one: str, other: str) -> str | None:
    """The same page with two models chosen; None where it does not show both."""
    labels = [entry.label for entry in board.entries[:MODELS]]
    known = one in labels and other in labels
    return f"{samples_href(board)}#{urlencode({'table': 'samples', 'a': one, 'b': other})}" if known else None


def record_samples(entry: Entry, sums: BoardSums | None, pictures: Pictures) -> dict[str, Any]:
    """lists: (title, what it holds, rows) of a record's samples. sums: of its board, None without other models."""
    found, spec = entry.by_sample, entry.metric.spec
    values_N = found.values_N
    others_N = sums.mean_without(values_N) if sums else np.full(len(values_N), np.nan)
    good_N, other_N = spec.gain(values_N, np.zeros(())), spec.gain(others_N, np.zeros(()))
    lead_N = np.where(np.isclose(good_N, other_N, rtol=1e-9, atol=1e-9), 0.0, good_N - other_N)  # a sum less a part of it is not exact
    scored, told = np.flatnonzero(~np.isnan(values_N)), np.flatnonzero(~np.isnan(lead_N))
    most = min(SHOWN, (len(scored) + 1) // 2)
    hardest = scored[np.lexsort((-np.nan_to_num(other_N[scored]), good_N[scored]))][:most]
    easiest = scored[np.lexsort((np.nan_to_num(other_N[scored]), -good_N[scored]))][:most]
    by_lead = told[np.argsort(lead_N[told], kind="stable")]
    behind, ahead = (places[:SHOWN] for places in (by_lead[lead_N[by_lead] < 0], by_lead[lead_N[by_lead] > 0][::-1]))
    chosen = {"Hardest": hardest, "Easiest": easiest, "Most behind the other models": behind, "Most ahead of the other models": ahead}

    def row(place: int) -> SampleRow:
        id, known = found.ids[place], not np.isnan(lead_N[place])
        others, gain = (float(others_N[place]), float(lead_N[place])) if known else (None, None)
        return SampleRow(id, found.groups[place], float(values_N[place]), others, gain, pictures.get(id))

    lists = [(title, [row(place) for place in places.tolist()]) for title, places in chosen.items() if len(places)]
    return {"item": found.item, "lists": lists, "scored": len(scored), "unscored": len(values_N) - len(scored), "others": sums is not None}


def board_samples(board: Board, sums: BoardSums, pictures: Mapping[str, Pictures]) -> dict[str, Any]:
    """The samples on which a board's models differ most, those that are hardest for all, and those with pictures.

    pictures: by the id of an entry. apart, hard: on a sample that is left out no two of the models shown differ by more, and the mean of
    all models is no worse; None where no sample is left out.
    """
    entries, spec, found = board.entries[:MODELS], board.metric.spec, board.entries[0].by_sample
    values_NM, mean_N = np.stack([entry.by_sample.values_N for entry in entries], axis=1), sums.mean()
    spread_N, shades_NM = _spread(values_NM), _shades(values_NM, spec.higher_is_better)
    scored, good_N = np.flatnonzero(~np.isnan(mean_N)), spec.gain(mean_N, np.zeros(()))
    apart = scored[np.lexsort((good_N[scored], -spread_N[scored]))].tolist()  # of equal spread, as of a model alone, the hardest first
    hard = scored[np.argsort(good_N[scored], kind="stable")].tolist()
    drawn = {id for entry in entries for id in pictures.get(entry.id, {})}
    chosen = {*apart[:DIFFERENT], *hard[:HARD], *(place for place in apart if found.ids[place] in drawn)}
    rows = [
        {
            "id": found.ids[place],
            "mean": float(mean_N[place]),
            "spread": float(spread_N[place]),
            "cells": [*zip(values_NM[place].tolist(), shades_NM[place].tolist(), strict=True)],
        }
        for place in apart
        if place in chosen
    ]
    return {
        "board": board,
        "item": found.item,
        "entries": entries,
        "rows": rows,
        "scored": len(scored),
        "apart": next((float(spread_N[place]) for place in apart if place not in chosen), None),
        "hard": next((float(mean_N[place]) for place in hard if place not in chosen), None),
        "gallery": _gallery(board, [row["id"] for row in rows], pictures),
    }


def _gallery(board: Board, ids: Sequence[str], pictures: Mapping[str, Pictures]) -> list[dict[str, Any]]:
    """Samples with the pictures and scores of the models that have them, those of the most models first."""
    place = {id: place for place, id in enumerate(board.entries[0].by_sample.ids)}
    found = []
    for id in ids:
        entries = [entry for entry in board.entries[:MODELS] if id in pictures.get(entry.id, {})]
        drawn = [(entry, float(entry.by_sample.values_N[place[id]]), pictures[entry.id][id]) for entry in entries]
        found += [{"id": id, "drawn": drawn}] if drawn else []
    return sorted(found, key=lambda one: -len(one["drawn"]))[:DRAWN]


def _spread(values_NM: np.ndarray) -> np.ndarray:
    """The greatest less the least score of each sample; 0 where there is none."""
    missing_NM = np.isnan(values_NM)
    high_N, low_N = np.where(missing_NM, -np.inf, values_NM).max(axis=1), np.where(missing_NM, np.inf, values_NM).min(axis=1)
    return np.where(missing_NM.all(axis=1), 0.0, high_N - low_N)


def _shades(values_NM: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """0 = bad, SHADES - 1 = good: equal steps between what a twentieth of the scores lies below and above."""
    known = values_NM[~np.isnan(values_NM)]
    low, high = np.quantile(known, [0.05, 0.95]) if known.size else (0.0, 1.0)
    share_NM = np.clip((np.nan_to_num(values_NM) - low) / ((high - low) or 1.0), 0, 1)
    return np.round((SHADES - 1) * (share_NM if higher_is_better else 1 - share_NM)).astype(int)


def _mean(total_N: np.ndarray, number_N: np.ndarray) -> np.ndarray:
    return np.divide(total_N, number_N, out=np.full(total_N.shape, np.nan), where=number_N > 0)
