"""Records side by side: a row per model and protocol, a column per task's primary metric, and what it cost.

Nothing is mixed in silence. A score whose protocol was changed carries a dagger and its deviations are listed below; a score on
other data than its column carries a double dagger; one under a protocol whose source has no number for the task carries a section
sign; two records that differ only in weights, card, seed or precision get rows that say so. A score is set in bold where it is the
best of its protocol, comparable, and its interval excludes the others' scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tips_bench.errors import UserError, unknown_name
from tips_bench.results.record import Record
from tips_bench.results.same_model import model_key, shared_names
from tips_bench.results.table_choice import check_caption
from tips_bench.results.table_formats import FORMATS
from tips_bench.results.table_layout import Cell, Column, Layout, Row

EXTENSION = "§"


def table(
    records: Sequence[Record],
    format: str = "terminal",
    *,
    width: int = 80,
    color: bool = False,
    sort: str | None = None,
    caption: str | None = None,
) -> str:
    """The records as text: "terminal", "markdown", "csv", "latex" or "json"; csv and json keep full precision.

    width and color are the terminal's: columns that do not fit are dropped from the last, and a note says so; bold needs color.
    sort: as for `layout`. caption: of a LaTeX table, as LaTeX; None = a tabular alone.
    Errors: an unknown format, no records, no such column to sort by, a caption for another format.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if not records:
        raise UserError("there are no records to show", fix="Write some with `tips-bench run --out FOLDER`.")
    check_caption(caption, format)
    laid_out = layout(records, sort)
    if format == "terminal":
        return FORMATS[format](laid_out, width, color)
    return FORMATS[format](laid_out, caption) if format == "latex" else FORMATS[format](laid_out)


def layout(records: Sequence[Record], sort: str | None = None) -> Layout:
    """Columns by task; rows by protocol, the best model first. sort: "model", or a task: its best score first, whatever the protocol.

    Errors: another word to sort by.
    """
    columns = sorted({_column(record) for record in records}, key=lambda column: (column.task, column.metric, column.spec.unit))
    marks, notes = _footnotes(records)
    rows = []
    for model, protocol, members in _rows(records):
        by_column = {_column(record): record for record in members}
        cells = tuple(_cell(by_column[column], marks) if column in by_column else None for column in columns)
        rows.append(Row(model, protocol, cells, *_cost(members), any(record.cost.resumed for record in members)))
    rows = _bold(columns, rows)
    rows.sort(key=lambda row: (row.protocol, [_rank(column, cell) for column, cell in zip(columns, row.cells, strict=True)], row.model))
    return Layout(columns, _sorted(columns, rows, sort), notes)


def _sorted(columns: Sequence[Column], rows: list[Row], sort: str | None) -> list[Row]:
    if sort is None:
        return rows
    if sort == "model":
        return sorted(rows, key=lambda row: (row.model, row.protocol))
    tasks = [column.task for column in columns]
    if sort not in tasks:
        raise unknown_name("column", sort, [*tasks, "model"], where="--sort")
    place = tasks.index(sort)
    return sorted(rows, key=lambda row: _rank(columns[place], row.cells[place]))


def _column(record: Record) -> Column:
    return Column(record.task, record.primary, record.primary_metric.spec)


def _rows(records: Sequence[Record]) -> list[tuple[str, str, list[Record]]]:
    """(model, protocol, records of one row, one a column); the model says what tells the row from its like."""
    names = shared_names(records)
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.created, record.model_dump_json())):
        identity, run = (names[model_key(record)], *_identity(record, records)), 1
        while any(_column(other) == _column(record) for other in rows.get((*identity, str(run)), [])):
            run += 1
        rows.setdefault((*identity, str(run)), []).append(record)
    labeled = []
    for key, members in rows.items():
        alike = [other for other in rows if other[:2] == key[:2]]
        texts = zip(("weights ", "card ", "seed ", "", "run "), key[2:], strict=True)
        # 12 digits of a hash tell enough; a precision has more letters and no name before it.
        differing = [
            what + (text[:12] if what else text)
            for position, (what, text) in enumerate(texts, 2)
            if len({other[position] for other in alike}) > 1
        ]
        labeled.append((f"{key[0]} ({', '.join(differing)})" if differing else key[0], key[1], members))
    return labeled


def _identity(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    return record.protocol, record.weights_sha256, _values(record, records), str(record.seed), record.cost.precision


def _values(record: Record, records: Sequence[Record]) -> str:
    """The hash of the protocol; where the task's name gives the size, as its column says, that of the records without one."""
    if not _sized(record):
        return record.protocol_hash
    usual = {one.protocol_hash for one in records if not _sized(one) and one.protocol == record.protocol}
    return usual.pop() if len(usual) == 1 else "of each size"


def _sized(record: Record) -> bool:
    data = (record.cards.get("task") or {}).get("data") or {}
    return bool((data.get("changes") or {}).get("size"))


def _data(record: Record) -> tuple[str, str]:
    return record.dataset.fingerprint, record.dataset.train_fingerprint


def _footnotes(records: Sequence[Record]) -> tuple[dict[int, tuple[str, ...]], dict[str, str]]:
    """id(record) -> its signs, and sign -> sentence; signs are numbered where there are several of a kind."""
    daggers = {id(record): _deviation(record) for record in records if record.deviations or not record.comparable}
    doubles = {}
    for column in {_column(record) for record in records}:
        members = [record for record in records if _column(record) == column]
        counts = Counter(_data(record) for record in members)
        usual = max(members, key=lambda record: (counts[_data(record)], record.dataset.n, _data(record)))
        for record in members:
            if _data(record) != _data(usual):
                doubles[id(record)] = f"{record.task} on {_describe(record)}; the unmarked scores are on {_describe(usual)}"
    sections = {id(record): _extension(record) for record in records if record.extension}
    marks: dict[int, tuple[str, ...]] = {id(record): () for record in records}
    notes: dict[str, str] = {}
    for mark, sentences in (("†", daggers), ("‡", doubles), (EXTENSION, sections)):
        distinct = sorted(set(sentences.values()))
        signs = {sentence: mark if len(distinct) == 1 else f"{mark}{number}" for number, sentence in enumerate(distinct, 1)}
        notes |= {sign: sentence for sentence, sign in signs.items()}
        for key, sentence in sentences.items():
            marks[key] += (signs[sentence],)
    return marks, notes


def _deviation(record: Record) -> str:
    return f"not comparable: {', '.join(map(str, record.deviations)) or 'the record does not say why'}"


def _extension(record: Record) -> str:
    return f"extension: the source of {record.protocol} has no number for {record.task}"


def _describe(record: Record) -> str:
    data = record.dataset
    scored, fitted = data.fingerprint[:8], data.train_fingerprint[:8]
    return f"{data.split} of {data.n} images ({scored}), fitted on {data.train_split} of {data.train_n} ({fitted})"


def _cell(record: Record, marks: dict[int, tuple[str, ...]]) -> Cell:
    metric = record.primary_metric
    return Cell(metric.value, metric.ci95, metric.n, marks[id(record)])


def _cost(members: Sequence[Record]) -> tuple[int, float, float]:
    images = sum(record.cost.image_forwards for record in members)
    rates = [record.cost.images_per_s for record in members]
    seconds = sum(record.cost.image_forwards / rate for record, rate in zip(members, rates, strict=True)) if all(rates) else math.nan
    return images, sum(record.cost.wall_s for record in members) / 60, images / seconds if seconds else math.nan


def _rank(column: Column, cell: Cell | None) -> tuple[int, float]:
    """Sorts the best first, then what was not scored, then what was not run."""
    return (1, 0.0) if cell is None else (0, column.spec.order(cell.value))


def _bold(columns: Sequence[Column], rows: list[Row]) -> list[Row]:
    """The rows with `best` set, within each column and protocol."""
    for position, column in enumerate(columns):
        for protocol in {row.protocol for row in rows}:
            fit = [row for row in rows if row.protocol == protocol and _competes(row.cells[position])]
            fit.sort(key=lambda row: _rank(column, row.cells[position]))
            if len(fit) > 1 and _excludes(fit[0].cells[position], [row.cells[position] for row in fit[1:]]):
                cells = list(fit[0].cells)
                cells[position] = replace(cells[position], best=True)  # type: ignore[type-var]
                rows[rows.index(fit[0])] = replace(fit[0], cells=tuple(cells))
    return rows


def _competes(cell: Cell | None) -> bool:
    return cell is not None and all(sign.startswith(EXTENSION) for sign in cell.signs) and not math.isnan(cell.value)


def _excludes(cell: Cell | None, others: Sequence[Cell | None]) -> bool:
    if cell is None or cell.interval is None:
        return False
    low, high = cell.interval
    return all(other is not None and not low <= other.value <= high for other in others)
