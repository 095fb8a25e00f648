"""Records as a pandas DataFrame: a row a record and metric, ready to filter, pivot and plot.

frame = tips_bench.load_records("results/")
frame[frame["primary"]].pivot_table(index="model", columns="task", values="value")
frame.query("task == 'rooms-depth' and comparable").sort_values("value")[["model", "metric", "value", "ci_low", "ci_high"]]
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tips_bench.results.folders import read_records
from tips_bench.results.record import Record, load_record
from tips_bench.terminal import printable

FORMULA = ("=", "+", "-", "@")  # how text begins that a spreadsheet runs


def load_records(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """The records in files and, recursively, in folders; a row a record and metric. A broken record is left out with a warning.

    task, family, protocol, protocol_hash   what was scored, and how
    extension                               whether the protocol's source never used it on this task
    model, weights, weights_sha256          the card's name; what stood in place of the card's weights, None = nothing
    metric, primary                         its name; whether it is the number that stands for the record
    value, unit, higher_is_better           NaN = not scored
    ci_low, ci_high, n                      ends of the 95 % interval over n samples; NaN where there is none
    comparable, deviations                  whether it may be compared with others, and why not
    split, fingerprint, seed                which data, and what was drawn
    device, dtype, wall_s, encoder_s, image_forwards, peak_memory_mb    what the record cost
    git_commit, created, path               where it comes from

    Errors: as `read_records`.
    """
    records, broken = read_records(paths, load_record)
    for error in broken:
        warnings.warn(str(error), stacklevel=2)
    return metrics_frame(records)


def metrics_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The columns of `load_records`, of records that are loaded already."""
    return pd.DataFrame([row for record in records for row in metric_rows(record)])


def metric_rows(record: Record) -> Iterator[dict[str, Any]]:
    """A row a metric, the primary one first."""
    cost, data = record.cost, record.dataset
    for name in sorted(record.metrics, key=lambda name: name != record.primary):
        metric = record.metrics[name]
        low, high = metric.ci95 or (math.nan, math.nan)
        yield {
            "task": record.task,
            "family": record.family,
            "protocol": record.protocol,
            "protocol_hash": record.protocol_hash,
            "extension": record.extension,
            "model": record.model,
            "weights": record.weights,
            "weights_sha256": record.weights_sha256,
            "metric": name,
            "primary": name == record.primary,
            "value": metric.value,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "ci_low": low,
            "ci_high": high,
            "n": metric.n,
            "comparable": record.comparable,
            "deviations": "; ".join(map(str, record.deviations)),
            "split": data.split,
            "fingerprint": data.fingerprint,
            "seed": record.seed,
            "device": cost.device,
            "dtype": cost.precision,
            "wall_s": cost.wall_s,
            "encoder_s": cost.encoder_s,
            "image_forwards": cost.image_forwards,
            "peak_memory_mb": cost.peak_memory_mb,
            "git_commit": record.git_commit,
            "created": record.created,
            "path": None if record.path is None else str(record.path),
        }


def to_csv(rows: pd.DataFrame) -> str:
    """Comma-separated values with a header, at full precision. Not scored is empty; no cell begins as a formula does."""
    cells = [list(map(_cell, row)) for row in rows.astype(object).itertuples(index=False, name=None)]
    safe = pd.DataFrame(cells, columns=list(map(_cell, rows.columns)), dtype=object)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def _cell(value: Any) -> Any:
    """A spreadsheet runs a cell that looks like a formula; an apostrophe before it stops that."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text
