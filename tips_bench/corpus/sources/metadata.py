"""What is said of the images of a folder in a table of their own, as Hugging Face's ImageFolder has it (folder_based_builder.py of 5.2).

metadata.csv, metadata.jsonl or metadata.parquet has a row for each image in its folder and those below: `file_name` is the path from there,
the other columns are read as those of any table (tables.py). Here, an image that has no row stays, without captions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.rows import columns_of, rows_of
from tips_bench.corpus.sources.tables import Columns, captions_of, said_of
from tips_bench.journal import warn

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE = "file_name"


@dataclass(frozen=True)
class Metadata:
    """files: the tables. said: what they say of an image, by its path below the folder."""

    files: list[Path] = field(default_factory=list)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)


def metadata_in(folder: Path, caption: str | None) -> Metadata:
    """What the tables below a folder say. Where two name an image, the one that lies nearer to it counts.

    caption: name of the column that is kept under this name as the caption; None = the first that has a usual name is "web". Warns of
    tables that name no files. Errors: those of `columns_of`, of `Columns.captions_in` and of `rows_of`.
    """
    found = Metadata()
    for file in sorted((path for name in NAMES for path in folder.rglob(name)), key=lambda path: (len(path.parts), path)):
        known = columns_of(file)
        if FILE not in known:
            warn(f"{file} is not read: it has no column {FILE}")
            continue
        found.files.append(file)
        columns = Columns(caption=Columns().captions_in(known, file) if caption is None else None)
        above = file.parent.relative_to(folder)
        for row in rows_of(file):
            if isinstance(name := row.pop(FILE, None), str):
                found.said[os.path.normpath(above / name)] = said_of(row, columns) | _named(row, caption)
    return found


def _named(row: dict[str, Any], caption: str | None) -> dict[str, Any]:
    texts = None if caption is None else captions_of(row, caption)
    return {} if caption is None or texts is None else {caption: texts}
