"""Rows of Parquet, CSV, TSV and JSON-lines files, which are known by their names.

A CSV or TSV file whose first row has a link has no header, as those of CC3M and CC12M: the link is then its `url`, the longest other text
its `caption`, the others are `column 3` and so on.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast

from tips_bench.corpus.sources.base import LOOKED_AT
from tips_bench.corpus.sources.tabs import tab_rows
from tips_bench.corpus.store import in_utf8
from tips_bench.errors import UserError
from tips_bench.training.shard_files import patiently
from tips_bench.training.shards import table_kind

LONGEST_FIELD = 1 << 20  # characters of a CSV file's field


class Holds(NamedTuple):
    """What a column holds. image: bytes, alone or as {bytes, path}. fields: names within it, where it has objects or lists of them."""

    image: bool = False
    fields: tuple[str, ...] = ()


def columns_of(path: Path) -> dict[str, Holds]:
    """The columns by name; of JSON lines, those of the first LOOKED_AT rows. Errors: those of `rows_of`; a file without rows."""
    if table_kind(path.name) == ".parquet":
        with parquet_file(path) as table:
            return columns_in(table.schema_arrow)
    first = list(itertools.islice(rows_of(path), LOOKED_AT))
    if not first:
        raise UserError("the file has no rows", where=path, fix="Give a file of links.")
    within: dict[str, dict[str, None]] = {name: {} for row in first for name in row}
    for row in first:
        for name, value in row.items():
            objects = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
            within[name] |= dict.fromkeys(key for one in objects for key in one)
    return {name: Holds(fields=tuple(keys)) for name, keys in within.items()}


def columns_in(schema: Any) -> dict[str, Holds]:
    """The columns of a schema of pyarrow."""
    return {name: _holds(kind) for name, kind in zip(schema.names, schema.types, strict=True)}


def _holds(kind: Any) -> Holds:
    from pyarrow import types

    inner = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
    fields = {inner.field(number).name: inner.field(number).type for number in range(inner.num_fields)} if types.is_struct(inner) else {}
    data = fields.get("bytes") if inner is kind and fields else kind
    return Holds(data is not None and (types.is_binary(data) or types.is_large_binary(data)), tuple(fields))


def count_of(path: Path) -> int:
    """The rows of a Parquet file. Errors: those of `parquet_file`."""
    with parquet_file(path) as table:
        return int(table.metadata.num_rows)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table. Errors: a line that is none, those of `parquet_file`."""
    kind = table_kind(path.name) or ""
    if kind == ".parquet":
        with parquet_file(path) as table:
            for batch in table.iter_batches():
                yield from rows_in(batch)
        return
    plain = kind.removesuffix(".gz")
    with patiently(path, lambda: path.open("rb")) as raw, gzip.open(raw) if plain != kind else nullcontext(raw) as file:
        lines = io.TextIOWrapper(cast(Any, file), encoding="utf-8-sig", newline="")
        try:
            yield from _json_rows(lines) if plain == ".jsonl" else _listed(tab_rows(lines) if plain == ".tsv" else csv.reader(lines))
        except (ValueError, RecursionError, csv.Error, EOFError) as error:
            raise UserError(f"a line cannot be read as a row ({error})", where=path, fix="Write the file again, in UTF-8.") from error


def rows_in(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch of pyarrow. What is no UTF-8 in a text is read as U+FFFD."""
    names = batch.schema.names
    return [dict(zip(names, values, strict=True)) for values in zip(*map(_values, batch.columns), strict=True)]


def _values(column: Any) -> list[Any]:
    """Of a column of pyarrow."""
    import pyarrow

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        kind = column.type
    if pyarrow.types.is_struct(kind):
        inner = [_values(one) for one in column.flatten()]
        names = [kind.field(number).name for number in range(kind.num_fields)]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*inner, strict=True)]
        return [row if there else None for row, there in zip(rows, column.is_valid().to_pylist(), strict=True)]
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        return [_values(one.values) if one.is_valid else None for one in column]
    plain = column.dictionary_decode() if pyarrow.types.is_dictionary(kind) else column
    return [None if one is None else one.decode("utf-8", "replace") for one in plain.cast(pyarrow.large_binary()).to_pylist()]


def _json_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in filter(str.strip, lines):
        row = in_utf8(json.loads(line))
        if not isinstance(row, dict):
            raise ValueError("not an object")
        yield row


def _listed(fields: Iterable[list[str]]) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(min(LONGEST_FIELD, sys.maxsize))
    rows = filter(None, fields)
    first = next(rows, [])
    named = _by_content(first)
    for row in itertools.chain([first] if named else [], rows):
        yield dict(itertools.zip_longest(named or first, row[: len(first)]))


def _by_content(row: list[str]) -> list[str] | None:
    """Names of the columns of a file without a header; None of a row that is one, for it has no link."""
    link = next((place for place, value in enumerate(row) if re.match(r"\s*https?://", value)), None)
    if link is None:
        return None
    others = [place for place in range(len(row)) if place != link]
    caption = max(others, key=lambda place: len(row[place]), default=None)
    return [{link: "url", caption: "caption"}.get(place, f"column {place + 1}") for place in range(len(row))]


@contextmanager
def parquet_file(path: Path) -> Iterator[Any]:
    """A file of pyarrow, open. Errors: it is no Parquet, or not whole; no pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError("pyarrow is not installed, which reads Parquet", where=path, fix="Run `pip install 'tips-bench[corpus]'`.")
    import pyarrow
    from pyarrow import parquet

    with patiently(path, lambda: path.open("rb")) as file:
        try:
            yield parquet.ParquetFile(file)
        except pyarrow.ArrowException as error:
            raise UserError(
                f"not a Parquet file that is whole ({str(error).splitlines()[0]})", where=path, fix="Fetch it again."
            ) from error
