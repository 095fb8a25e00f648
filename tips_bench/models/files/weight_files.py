"""Reading named tensors from .npz and .safetensors files, one at a time, without ever running what is in them.

A `WeightFile` knows the shape of every tensor before any is read, so that a checkpoint is checked whole before memory is spent.
Every fault of a file is a `UserError` that names it.
"""

from __future__ import annotations

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from tips_bench.errors import UserError

SHARD_INDEX = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

_ZIP_START = b"PK"
_ENCRYPTED = 0x1
# What a file that was meant to hold weights holds instead, by its first bytes.
_IMPOSTORS = (
    (b"\x93NUMPY", "it is a single array (.npy), not an archive of named ones"),
    (b"\x80", "it is a Python pickle, which could run code and is never loaded"),
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself"),
)
_FLOATS_NPZ = (np.float16, np.float32, np.float64)
_FLOATS_SAFETENSORS = ("F16", "BF16", "F32", "F64")
_LONGEST_NAME = 300  # of a tensor
_FIX = "Download it again or give another file."
_TORCH = "It is a file of torch.save: write its tensors with safetensors.torch.save_file, and give that file."


class WeightFile(ABC):
    """Named tensors of one checkpoint. shapes: key -> shape. metadata: text the container carries, or none. is_npz: of NumPy."""

    is_npz: ClassVar[bool] = False
    path: Path
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    @abstractmethod
    def _load(self, key: str) -> Tensor: ...

    def read(self, key: str) -> Tensor:
        """The tensor as float32; NaN or infinity in it is an error."""
        tensor = self._load(key).float()
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise UserError(f"{bad} of {tensor.numel()} values are NaN or infinite", where=f"{self.path}: {key}", fix=_FIX)
        return tensor


class _NpzFile(WeightFile):
    is_npz = True

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path, self.metadata, self.shapes = path, {}, {}
        with _faults(path):
            self._zip = stack.enter_context(zipfile.ZipFile(path))
        for info in self._zip.infolist():
            entry = info.filename
            if info.is_dir():
                continue
            if not entry.endswith(".npy"):
                fix = _TORCH if entry.endswith("data.pkl") else _FIX
                raise UserError(f"it is a zip archive but not an .npz: it holds {entry!r}", where=path, fix=fix)
            if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{entry!r} is encrypted or packed as NumPy never does", where=path, fix=_FIX)
            _check_name(entry, path)
            self.shapes[entry.removesuffix(".npy")] = self._header(entry)

    def _header(self, entry: str) -> tuple[int, ...]:
        with _faults(self.path, entry), self._zip.open(entry) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
        where = f"{self.path}: {entry.removesuffix('.npy')}"
        if dtype.hasobject:
            raise UserError("it holds pickled Python objects, which could run code and are never loaded", where=where, fix=_FIX)
        if dtype not in _FLOATS_NPZ:
            raise UserError(f"it holds {dtype} values where float16, float32 or float64 are expected", where=where, fix=_FIX)
        return shape

    def _load(self, key: str) -> Tensor:
        with _faults(self.path, key), self._zip.open(f"{key}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            # Reading on to the end is what makes zipfile compare the checksum; in pieces, since what follows may be of any size.
            while stream.read(2**20):
                pass
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


class _SafetensorsFile(WeightFile):
    """One .safetensors file, or the shards that an index lists."""

    def __init__(self, path: Path, shards: list[Path], stack: ExitStack) -> None:
        self.path, self.metadata, self.shapes = path, {}, {}
        self._shard_of: dict[str, Any] = {}
        for shard in shards:
            with _faults(shard):
                opened = stack.enter_context(safe_open(shard, framework="pt", device="cpu"))
            self.metadata.update(opened.metadata() or {})
            for key in opened.keys():  # noqa: SIM118 (the handle is no mapping)
                _check_name(key, shard)
                header = opened.get_slice(key)
                if header.get_dtype() not in _FLOATS_SAFETENSORS:
                    raise UserError(
                        f"it holds {header.get_dtype()} values where {', '.join(_FLOATS_SAFETENSORS)} are expected",
                        where=f"{shard}: {key}",
                        fix=_FIX,
                    )
                self.shapes[key] = tuple(header.get_shape())
                self._shard_of[key] = opened

    def _load(self, key: str) -> Tensor:
        with _faults(self.path, key):
            return self._shard_of[key].get_tensor(key)


@contextmanager
def open_weights(path: Path | str) -> Iterator[WeightFile]:
    """Opens a checkpoint: an .npz, a .safetensors, an index of shards, or a folder holding one of the last two.

    The kind is told from the content, not from the name.
    """
    path = _weight_path(Path(path))
    with ExitStack() as stack:
        if path.name.endswith(".index.json"):
            yield _SafetensorsFile(path, _shards(path), stack)
        elif _start(path).startswith(_ZIP_START):
            yield _NpzFile(path, stack)
        elif _looks_like_safetensors(path):
            yield _SafetensorsFile(path, [path], stack)
        else:
            _raise_impostor(path)


def _weight_path(path: Path) -> Path:
    if path.is_dir():
        for name in (SINGLE_FILE, SHARD_INDEX):
            if (path / name).is_file():
                return path / name
        raise UserError(f"the folder holds neither {SINGLE_FILE} nor {SHARD_INDEX}", where=path, fix="Give the file itself.")
    if not path.is_file():
        raise UserError("there is no such file", where=path, fix="Check the path.")
    return path


def _start(path: Path, count: int = 256) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise UserError(f"the file cannot be read ({error.strerror})", where=path, fix="Check its permissions.") from error


def _looks_like_safetensors(path: Path) -> bool:
    """The format starts with the length of its JSON header in 8 bytes, then the header."""
    return _start(path, 9)[8:9] == b"{"


def _raise_impostor(path: Path) -> NoReturn:
    start = _start(path)
    found = next((text for magic, text in _IMPOSTORS if start.startswith(magic)), None)
    if not start:
        found = "it is empty"
    elif found is None and start.lstrip()[:1] == b"<":
        found = "it is a web page or XML, perhaps an error message saved by a download"
    elif found is None:
        found = f"it starts with {start[:8]!r}"
    raise UserError(f"this is neither an .npz nor a .safetensors file: {found}", where=path, fix=_FIX)


def _check_name(name: str, path: Path) -> None:
    """Names go into messages, where a line break or a terminal's control sequence has no place."""
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UserError(f"the file is damaged: it names a tensor {name[:_LONGEST_NAME]!r}", where=path, fix=_FIX)


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError("the index has no weight_map of file names", where=index, fix=_FIX)
    shards = [index.parent / name for name in sorted(set(names.values()))]
    for shard in shards:
        if shard.parent != index.parent or not shard.is_file():
            raise UserError(f"the shard {shard.name!r} it lists is not beside it", where=index, fix="Download all shards.")
    return shards


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the file is not readable as JSON ({error})", where=path, fix=_FIX) from error
    if not isinstance(values, dict):
        raise UserError(f"the file holds a {type(values).__name__} where an object is expected", where=path, fix=_FIX)
    return values


@contextmanager
def _faults(path: Path, key: str | None = None) -> Iterator[None]:
    """Whatever zipfile, NumPy or safetensors raise over a file is the file's fault: NumPy alone raises a dozen kinds over a header."""
    where = path if key is None else f"{path}: {key.removesuffix('.npy')}"
    try:
        yield
    except Exception as error:
        size = path.stat().st_size if path.is_file() else 0
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the file is damaged or cut short at {size} bytes ({reason})", where=where, fix=_FIX) from error
