"""Records as one sheet: a row a model, a column a task, in the shape of MTEB's tables of results.

embeddings-benchmark/mteb a905523, mteb/benchmarks/_create_table.py: "Model" and a column a task (lines 872-876), "Total Parameters (B)" to
three digits (232-236), "Mean (Task)" only for a model with a score on every task (121-129). Written as CSV: mteb/leaderboard/app.py:82.
A second table says what each column is, since a task can be scored under several protocols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tips_bench.metrics.spec import MetricSpec
from tips_bench.results.record import Record
from tips_bench.results.same_model import measurement_key, model_key, shared_names, told_apart

MODEL, SIZE, MEAN = "Model", "Total Parameters (B)", "Mean (Task)"


@dataclass(frozen=True)
class _Column:
    """What records must share to stand in one column. deviations: from the protocol, as one line."""

    task: str
    protocol: str
    protocol_hash: str
    deviations: str
    fingerprint: str
    train_fingerprint: str
    family: str
    metric: str
    spec: MetricSpec
    split: str

    @classmethod
    def of(cls, record: Record) -> _Column:
        data = record.dataset
        return cls(
            record.task,
            record.protocol,
            record.protocol_hash,
            "; ".join(map(str, record.deviations)),
            data.fingerprint,
            data.train_fingerprint,
            record.family,
            record.primary,
            record.primary_metric.spec,
            data.split,
        )

    @property
    def averaged(self) -> bool:
        """Percents alone have a common scale."""
        return self.spec.unit == "%" and self.spec.higher_is_better and not self.deviations


def sheet(records: Sequence[Record]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row a model, the best mean first; a row a column of it). Scores are primary metrics; not scored is NaN.

    "Mean (Task)" is over all tasks whose metric is a percent, where higher is better; a task under several protocols counts once. One
    measurement that was made twice counts once, and several of a model in one column have rows of their own.
    """
    newest = {measurement_key(record): record for record in sorted(records, key=lambda record: record.created)}
    columns = sorted({_Column.of(record) for record in newest.values()}, key=lambda one: tuple(map(str, vars(one).values())))
    names = _names(columns)
    rows: dict[str, dict[str, Any]] = {}
    for label, record in _labeled(list(newest.values())):
        size = (record.cards.get("model") or {}).get("parameters")
        billions = round(size / 1e9, 3) if isinstance(size, int | float) and size > 0 else math.nan
        row = rows.setdefault(label, {MODEL: label, SIZE: billions})
        row[names[_Column.of(record)]] = record.primary_metric.value
    frame = pd.DataFrame(list(rows.values()), columns=[MODEL, SIZE, *names.values()])
    frame.insert(2, MEAN, _means(frame, names))
    return frame.sort_values([MEAN, MODEL], ascending=[False, True], ignore_index=True), pd.DataFrame(
        [_said(*one) for one in names.items()]
    )


def _means(frame: pd.DataFrame, names: dict[_Column, str]) -> pd.Series:
    """Mean over tasks of the mean of a task's columns; NaN where one is missing."""
    tasks = sorted({column.task for column in names if column.averaged})
    parts = [frame[[name for column, name in names.items() if column.task == task and column.averaged]] for task in tasks]
    each = pd.DataFrame({task: part.mean(axis=1, skipna=False) for task, part in zip(tasks, parts, strict=True)}, index=frame.index)
    return each.mean(axis=1, skipna=False)


def _names(columns: Sequence[_Column]) -> dict[_Column, str]:
    """The task; where it has several columns, or the protocol was changed, with what tells them apart."""
    names = {}
    for column in columns:
        alike = [other for other in columns if other.task == column.task]
        said = []
        for field, text in (
            ("protocol", column.protocol),
            ("protocol_hash", column.protocol_hash[:8]),
            ("deviations", column.deviations),
            ("fingerprint", f"data {column.fingerprint[:8]}"),
            ("train_fingerprint", f"trained on {column.train_fingerprint[:8]}"),
        ):
            same = [other for other in alike if getattr(other, field) == getattr(column, field)]
            said += [text] if text and (len(same) < len(alike) or field == "deviations") else []
            alike = same
        names[column] = f"{column.task} ({', '.join(said)})" if said else column.task
    return names


def _labeled(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Each record with the label of its row."""
    shared = shared_names(records)
    identities = [(shared[model_key(record)], record.weights_sha256, str(record.seed), record.cost.precision) for record in records]
    labeled, runs = [], dict[Any, int]()
    for identity, record in zip(identities, records, strict=True):
        place = (identity, _Column.of(record))
        runs[place] = runs.get(place, 0) + 1
        labeled.append((told_apart(identity, identities, runs[place]), record))
    return labeled


def _said(column: _Column, name: str) -> dict[str, Any]:
    """A row of the second table."""
    return {
        "column": name,
        "task": column.task,
        "family": column.family,
        "protocol": column.protocol,
        "protocol_hash": column.protocol_hash,
        "deviations": column.deviations,
        "metric": column.metric,
        "unit": column.spec.unit,
        "higher_is_better": column.spec.higher_is_better,
        "in_mean": column.averaged,
        "split": column.split,
        "fingerprint": column.fingerprint,
        "train_fingerprint": column.train_fingerprint,
    }
