"""All that a site shows, for programs: CSV that a spreadsheet opens, and JSON at full precision."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tips_bench.files import write_text
from tips_bench.leaderboard.published import Reported
from tips_bench.leaderboard.ranking import Entry, Rank

SCHEMA = "tips-bench/leaderboard/1"
IN_FULL = {"cards", "per_class", "probe", "selection", "schema_", "per_sample", "pictures"}  # only in the record's own file
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_data(folder: Path, entries: Sequence[Entry], ranks: Mapping[str, int]) -> None:
    """results.csv (a row a metric), classes.csv (a row a class), results.json, and each record under records/.

    ranks: entry id -> rank on its board, for those on one.
    """
    summaries = []
    for entry in entries:
        data = entry.record.model_dump(mode="json")
        fields = {key: value for key, value in data.items() if key not in IN_FULL}
        summaries.append({"id": entry.id, "label": entry.label, "rank": ranks.get(entry.id)} | fields)
        write_text(folder / "records" / f"{entry.id}.json", _json({"schema": data.pop("schema_"), **data}))
    write_text(folder / "results.json", _json({"schema": SCHEMA, "records": summaries}))
    rows = [_row(entry, name, ranks.get(entry.id)) for entry in entries for name in entry.record.metrics]
    write_text(folder / "results.csv", to_csv(rows))
    write_text(folder / "classes.csv", to_csv([row for entry in entries for row in _classes(entry)]))


def write_reported(path: Path, reported: Iterable[Reported]) -> None:
    """What papers report, a row a number."""
    names = ("model", "printed", "task", "metric", "unit", "value", "citation", "url", "where", "note")
    write_text(path, to_csv([{name: getattr(one, name) for name in names} | {"protocol_as_stated": one.protocol.text} for one in reported]))


def write_ranks(path: Path, ranks: Iterable[Rank]) -> None:
    """The overall mean ranks."""
    write_text(
        path, to_csv([{"label": one.label, "mean_rank": one.value, "low": one.interval[0], "high": one.interval[1]} for one in ranks])
    )


def _row(entry: Entry, name: str, rank: int | None) -> dict[str, Any]:
    record, metric, cost = entry.record, entry.record.metrics[name], entry.record.cost
    low, high = metric.ci95 or (None, None)
    primary = name == record.primary
    return {
        "id": entry.id,
        "task": record.task,
        "family": record.family,
        "protocol": record.protocol,
        "protocol_hash": record.protocol_hash,
        "model": record.model,
        "label": entry.label,
        "metric": name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "value": metric.value,
        "low": low,
        "high": high,
        "n": metric.n,
        "primary": primary,
        "rank": rank if primary else None,
        "comparable": record.comparable,
        "deviations": "; ".join(record.deviations),
        "encoder_ms": entry.encoder_ms,
        "wall_s": cost.wall_s,
        "image_forwards": cost.image_forwards,
        "peak_memory_mb": cost.peak_memory_mb,
        "device": cost.device,
        "dtype": cost.dtype,
        "weights_sha256": record.weights_sha256,
        "created": record.created,
    }


def _classes(entry: Entry) -> Iterable[dict[str, Any]]:
    record = entry.record
    for metric, values in record.per_class.items():
        for label, value in values.items():
            low, high = entry.classes.get(metric, {}).get(label) or (None, None)
            cell = {"id": entry.id, "task": record.task, "protocol": record.protocol, "label": entry.label}
            yield cell | {"metric": metric, "class": label, "value": value, "low": low, "high": high}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated values with a header; not scored is empty, and a text that a spreadsheet takes for a formula gets an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0] if rows else [])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
