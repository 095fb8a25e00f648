"""Small .npz files: written whole or not at all, read without pickles, and refused in one sentence where they are broken."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
        raise UserError(f"not a saved {what}, or a broken one", where=path, fix="Delete its folder and run again.") from error
