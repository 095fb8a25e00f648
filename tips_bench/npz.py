"""Small .npz files: written whole or not at all, read without pickles, and refused in one sentence where they are broken."""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import atomic

# What numpy, zipfile and a reader of the arrays raise for a file that is cut short, encrypted, of absurd sizes, or lacks an array.
# NumPy reads an array's header as Python's own syntax, and lets its errors out.
BROKEN = (
    *(OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, RuntimeError, MemoryError, ArithmeticError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error),
)
ReadT = TypeVar("ReadT")


def save_npz(path: Path, **arrays: Any) -> None:
    """Write named arrays, atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def map_npz(path: Path, what: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a file of `save_npz` by their names, on the disk still: what is taken of them is read, and nothing else.

    what: as for `read_npz`. Errors: as there.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as data:
            return {name: _mapped(path, file, data.getinfo(f"{name}.npy").header_offset) for name in names}
    except BROKEN as error:
        raise _broken(path, what) from error


def _mapped(path: Path, file: BinaryIO, header: int) -> np.ndarray:
    """header: where the entry of the array begins. A name and another field lie before the array, as long as said there (APPNOTE 4.3.7)."""
    file.seek(header + 26)
    file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
    np.lib.format.read_magic(file)
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    if not np.prod(shape):
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", file.tell(), shape, "F" if by_columns else "C").view(np.ndarray)


def read_npz(path: Path, what: str, read: Callable[[Any], ReadT]) -> ReadT:
    """`read` of the file's arrays. what: what the file is meant to hold, for the message ("probe", "index").

    Errors: a file that is missing, broken or of something else.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:  # numpy itself leaves a broken file open
            return read(data)
    except UserError:
        raise
    except BROKEN as error:
        raise _broken(path, what) from error


def _broken(path: Path, what: str) -> UserError:
    return UserError(f"not a saved {what}, or a broken one", where=path, fix="Delete its folder and run again.")
