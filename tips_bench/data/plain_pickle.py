"""Pickles of plain data, read without running anything that they name.

A pickle is a program: it may call whatever it can import. Here it may import nothing. Of numpy's arrays and numbers, stand-ins keep the
bytes, which become arrays afterwards; any other name is an error, as is what a reader of plain data has no need for.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.errors import UserError

MAX_BYTES = 1 << 26
MAX_VALUES = 1 << 23  # a few bytes may name one list many times over
KINDS = "biufSU"  # of arrays: numbers and text
FIX = "Fetch the file again from its publisher."
# opcodes that plain data and numpy's arrays never have: names of objects outside the file, and old ways to build instances
FOREIGN = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER", "READONLY_BUFFER"}
PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}


class _Kind:
    """Stands in for numpy.dtype."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        """The type itself. Errors: ValueError, one that is not of plain numbers or text."""
        kind = np.dtype(self.code)
        if kind.kind not in KINDS or not kind.itemsize:
            raise ValueError(f"an array of {self.code}")
        return kind.newbyteorder(">") if self.order == ">" else kind


class _Array:
    """Stands in for numpy.ndarray."""

    def __init__(self, *_: object) -> None:
        self.values: Any = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, data = state
        if isinstance(data, list) and kind.code.startswith("O"):
            self.values = data
            return
        if math.prod(shape) * kind.numpy().itemsize != len(data):
            raise ValueError("an array of another size than its bytes")
        self.values = np.frombuffer(data, kind.numpy()).reshape(shape, order="F" if by_columns else "C").tolist()


def _scalar(kind: _Kind, data: bytes) -> Any:
    return np.frombuffer(data, kind.numpy(), count=1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""  # as protocols before 3 write it


CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{(core, "_reconstruct"): _Array for core in CORES},
    **{(core, "scalar"): _scalar for core in CORES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data")
        found: Callable[..., Any] = KNOWN[module, name]
        return found


def read_plain_pickle(path: Path) -> Any:
    """Dictionaries, lists, text and numbers; arrays of numpy become lists.

    Errors: no such file, one of more than MAX_BYTES, one that names anything but plain data, a broken one.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"a file of more than {MAX_BYTES} bytes, and lists are shorter", where=path, fix=FIX)
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=FIX) from error
    try:
        _look_over(data)
        return _Plain().of(_Unpickler(io.BytesIO(data)).load())
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, KeyError, IndexError, EOFError, RecursionError) as error:
        raise UserError(f"not a pickle of plain data, or a broken one ({error})", where=path, fix=FIX) from error


def _look_over(data: bytes) -> None:
    """Errors: ValueError, an opcode that plain data has no need for, or a place to remember that asks for memory the file cannot fill."""
    for number, (code, argument, _) in enumerate(pickletools.genops(data)):
        if code.name in FOREIGN:
            raise ValueError(f"it has the opcode {code.name}")
        if code.name in PUTS and int(str(argument)) > number:
            raise ValueError(f"it remembers at place {argument}")


class _Plain:
    """Values without stand-ins. Errors: ValueError, more than MAX_VALUES, or another kind of object."""

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def of(self, value: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(value, _Array):
            return self.of(value.values)
        if isinstance(value, dict):
            return {key: self.of(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        if isinstance(value, str | bytes | int | float | bool) or value is None:
            return value
        raise ValueError(f"it holds a {type(value).__name__}")
