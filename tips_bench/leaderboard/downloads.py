"""All that a site shows, for programs: CSV that a spreadsheet opens, and JSON at full precision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tips_bench.files import write_text
from tips_bench.leaderboard.published import Reported
from tips_bench.leaderboard.ranking import Entry
from tips_bench.leaderboard.standing import Rank, Standing
from tips_bench.results.frames import metric_rows, to_csv

SCHEMA = "tips-bench/leaderboard/1"
RENAMED = {"ci_low": "low", "ci_high": "high"}  # as in the other files of a site
IN_FULL = {"cards", "per_class", "probe", "selection", "schema_", "per_sample", "pictures", "pictured"}  # only in the record's own file

RANKED = (
    "label", "mean_rank", "low", "high", "low_over_tasks", "high_over_tasks", "best_place", "worst_place", "boards", "tasks", "undecided",
)  # fmt: skip


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
    rows = pd.DataFrame([row for entry in entries for row in _rows(entry, ranks.get(entry.id))])
    write_text(folder / "results.csv", to_csv(rows.astype({"rank": "Int64"})))
    write_text(folder / "classes.csv", to_csv(pd.DataFrame([row for entry in entries for row in _classes(entry)], dtype=object)))


def write_reported(path: Path, reported: Iterable[Reported]) -> None:
    """What papers report, a row a number."""
    names = ("model", "printed", "task", "metric", "unit", "value", "citation", "url", "where", "note")
    rows = [{name: getattr(one, name) for name in names} | {"protocol_as_stated": one.protocol.text} for one in reported]
    write_text(path, to_csv(pd.DataFrame(rows)))


def write_ranks(path: Path, overall: Standing) -> None:
    """The overall mean ranks and what they rest on; then the models without one, with the reason."""
    rows = [_ranked(one) for one in overall.ranks] + [{"label": label, "why_no_place": why} for label, why in overall.unplaced.items()]
    whole = {name: "Int64" for name in ("best_place", "worst_place", "boards", "tasks", "undecided")}
    frame = pd.DataFrame(rows, columns=[*RANKED, "why_no_place"])
    write_text(path, to_csv(frame.astype(whole)))


def _ranked(one: Rank) -> dict[str, Any]:
    values = (one.label, one.value, *one.interval, *(one.over_tasks or (None, None)), *one.places, one.boards, one.tasks, one.undecided)
    return dict(zip(RANKED, values, strict=True))


def _rows(entry: Entry, rank: int | None) -> Iterator[dict[str, Any]]:
    """The rows of `load_records`, with what the site knows of the record and without the path on the machine that built it."""
    for row in metric_rows(entry.record):
        known = {RENAMED.get(name, name): value for name, value in row.items() if name != "path"}
        own = {"rank": rank if row["primary"] else None, "encoder_ms": entry.encoder_ms}
        yield {"id": entry.id, "label": entry.label, **known, **own}


def _classes(entry: Entry) -> Iterator[dict[str, Any]]:
    record = entry.record
    for metric, values in record.per_class.items():
        for label, value in values.items():
            low, high = entry.classes.get(metric, {}).get(label) or (None, None)
            cell = {"id": entry.id, "task": record.task, "protocol": record.protocol, "label": entry.label}
            yield cell | {"metric": metric, "class": label, "value": value, "low": low, "high": high}


def _json(data: Any) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
