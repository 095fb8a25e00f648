"""The files of kept features: a part is `part-ID.bin`, arrays one behind another, and `part-ID.index`, a record an array.

Beside the parts of an encoder lies `about.json`, with its name and the type of the values. A part's time of last use is the time of change
of its index, which whoever reads it sets: the time of reading that a file system keeps is often switched off (noatime).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tips_bench.errors import UserError

ABOUT = "about.json"
RECORD = np.dtype(
    [("key", "S32"), ("kind", "S32"), ("offset", "<u8"), ("rows", "<u4"), ("columns", "<u4"), ("check", "<u4"), ("own", "<u4")]
)


class Place(NamedTuple):
    """Where an array lies: in which part, from which byte on, its shape and CRC-32."""

    part: Path
    offset: int
    rows: int
    columns: int
    check: int


def places(index: Path) -> Iterator[tuple[tuple[bytes, bytes], Place]]:
    """(key, kind) and place of each array of a part; a record that is not what was written is left out. Errors: OSError."""
    data, part = index.read_bytes(), index.with_suffix(".bin")
    for record in np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD):
        if own_check(record) == record["own"]:
            shape = int(record["offset"]), int(record["rows"]), int(record["columns"])
            yield (bytes(record["key"]), bytes(record["kind"])), Place(part, *shape, int(record["check"]))


def own_check(record: np.ndarray) -> int:
    """CRC-32 of a record without its last field."""
    return zlib.crc32(record.tobytes()[:-4])


def bytes_a_value(folder: Path) -> int:
    """Of the parts of one encoder. Errors: OSError; a UserError where ABOUT does not say it."""
    about = folder / ABOUT
    try:
        return np.dtype(json.loads(about.read_text(encoding="utf-8"))["type"]).itemsize
    except (ValueError, KeyError, TypeError) as error:
        problem = "the type of the features beside it cannot be read"
        raise UserError(problem, where=about, fix="Delete the folder: runs make its features anew.") from error
