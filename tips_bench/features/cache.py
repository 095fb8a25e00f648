"""Arrays on disk that are filled item by item, survive a kill, and are found again by what they hold.

A store is a folder: one flat file an array, `done.bin` with a byte an item, `checks.bin` with a CRC-32 an item and array,
`header.json`. An item's byte is set after its rows are written, so a run taken up again does only what is missing; an item whose
rows are not what was written (after a power cut, or a fault of the disk) is missing, too. Space is reserved at creation: a full
disk is an error then, not a crash later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.files import cannot_write, digest, write_text


class ResumableArray:
    """Named arrays of rows, `rows[i]` of them for item i.

    folder: created if absent, taken up if it is whole and holds the same layout and content, else emptied. arrays: name -> (shape of a
    row, dtype). content: a text of what shapes the rows.
    Errors: a disk without the space, a store that another run is using.
    """

    def __init__(self, folder: Path, rows: Sequence[int], arrays: Mapping[str, tuple[tuple[int, ...], str]], content: str = "") -> None:
        self.folder = folder
        self.starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.arrays: dict[str, np.memmap] = {}
        kinds = {name: [list(shape), dtype] for name, (shape, dtype) in arrays.items()}
        header = json.dumps({"rows": list(map(int, rows)), "arrays": kinds, "content": content})
        total = int(self.starts[-1])
        self._sizes = {name: total * int(np.prod(shape)) * np.dtype(dtype).itemsize for name, (shape, dtype) in arrays.items()}
        self._sizes |= {"done": len(rows), "checks": 4 * len(rows) * len(arrays)}
        self._lock: int | None = _lock(folder)
        try:
            self._open(arrays, header)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, arrays: Mapping[str, tuple[tuple[int, ...], str]], header: str) -> None:
        taken_up = self._is_whole(header)
        if not taken_up:
            self._create(header)
        for name, (shape, dtype) in arrays.items():
            self.arrays[name] = self._map(name, (int(self.starts[-1]), *shape), dtype)
        self._done = self._map("done", (len(self.starts) - 1,), "uint8")
        self._checks = self._map("checks", (len(self.starts) - 1, len(arrays)), "uint32")
        if taken_up:
            for item in np.flatnonzero(self._done).tolist():
                self._done[item] = self._checksums(item) == self._checks[item].tolist()

    def _checksums(self, item: int) -> list[int]:
        return [checksum(array[self.rows(item)]) for array in self.arrays.values()]

    def _is_whole(self, header: str) -> bool:
        """Whether the folder holds this store with every file at its size: one that was cut off would be read as zeros."""
        try:
            if (self.folder / "header.json").read_text(encoding="utf-8") != header:
                return False
            return all((self.folder / f"{name}.bin").stat().st_size == max(size, 1) for name, size in self._sizes.items())
        except (OSError, UnicodeDecodeError):
            return False

    def _create(self, header: str) -> None:
        _remove(self.folder)
        try:
            self.folder.mkdir(parents=True)
            for name, size in self._sizes.items():
                with (self.folder / f"{name}.bin").open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:
            _remove(self.folder)
            needed = sum(self._sizes.values()) / 1e9
            raise UserError(f"cannot reserve {needed:.2f} GB: {cannot_write(self.folder, error).problem}", where=self.folder) from error
        write_text(self.folder / "header.json", header)

    def _map(self, name: str, shape: tuple[int, ...], dtype: str) -> np.memmap:
        path = self.folder / f"{name}.bin"
        if 0 in shape:
            raise UserError("there is nothing to store", where=path)
        return np.memmap(path, dtype=dtype, mode="r+", shape=shape)

    def missing(self) -> list[int]:
        """Items that are not written yet."""
        return np.flatnonzero(self._done == 0).tolist()

    def rows(self, item: int) -> slice:
        """The rows of an item."""
        return slice(int(self.starts[item]), int(self.starts[item + 1]))

    def write(self, item: int, **values: np.ndarray) -> None:
        """Write all arrays of one item and their checksums, then mark it done."""
        for name, array in self.arrays.items():
            array[self.rows(item)] = values[name]
        self._checks[item] = self._checksums(item)
        self._done[item] = 1

    def read(self, item: int, name: str) -> np.ndarray:
        """The rows of an item, copied into memory."""
        return np.array(self.arrays[name][self.rows(item)])

    def flush(self) -> None:
        """Hand everything to the disk: a power cut after it loses nothing."""
        for array in (*self.arrays.values(), self._checks, self._done):
            array.flush()

    def delete(self) -> None:
        """Remove the folder."""
        _remove(self.folder)
        self.close()

    def close(self) -> None:
        """Let go of the files, so that another run may use them; a second time does nothing."""
        self.arrays.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def read_items(folder: Path, name: str) -> dict[int, np.ndarray]:
    """Item -> its rows of an array in a store, for the items that were written, as memory maps that cannot be; none without a store.

    No lock is taken: an item that was written does not change any more.
    """
    try:
        header = json.loads((folder / "header.json").read_text(encoding="utf-8"))
        done = np.flatnonzero(np.fromfile(folder / "done.bin", dtype=np.uint8))
        checks = np.fromfile(folder / "checks.bin", dtype=np.uint32).reshape(len(header["rows"]), -1)[:, list(header["arrays"]).index(name)]
        shape, dtype = header["arrays"][name]
        starts = np.concatenate([[0], np.cumsum(header["rows"])])
        rows = np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r", shape=(int(starts[-1]), *shape))
    except (OSError, ValueError, KeyError):
        return {}
    found = {int(item): rows[starts[item] : starts[item + 1]] for item in done}
    return {item: one for item, one in found.items() if checksum(one) == checks[item]}


def checksum(rows: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data) if rows.size else 0


def _remove(folder: Path) -> None:
    """The header goes first: what a kill leaves of the rest is no store."""
    with contextlib.suppress(OSError):
        (folder / "header.json").unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Hold the folder for this process; the system lets go of it when the process ends, however it ends."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UserError("another run is using these features", where=folder, fix="Wait until it has finished, or stop it.") from error
    return descriptor


class FeatureCache:
    """Where a run keeps its stores: its own work folder, or a cache that later runs share.

    identity: null for a work folder; for a cache, a text of everything that shapes the features (weights, card of the model,
    preprocessing, layers, precision, data fingerprint), from which the name of the store is hashed.
    """

    def __init__(self, folder: Path, identity: str | None = None) -> None:
        self.folder, self.identity = folder, identity
        self._open: list[ResumableArray] = []

    @property
    def persistent(self) -> bool:
        """Whether what is kept here is there for later runs."""
        return self.identity is not None

    def open(self, name: str, rows: Sequence[int], arrays: Mapping[str, tuple[tuple[int, ...], str]], *details: object) -> ResumableArray:
        """The store `name`, taken up where it was left. details: what shapes its content besides the identity."""
        store = ResumableArray(self.place(name, *details), rows, arrays, digest(self.identity, *details))
        self._open.append(store)
        return store

    def place(self, name: str, *details: object) -> Path:
        """The folder of the store `name`, whether it is there or not."""
        return self.folder / (name if self.identity is None else f"{name}-{digest(self.identity, *details)[:24]}")

    def finish(self, store: ResumableArray) -> None:
        """A work folder's store is deleted, a cache's is kept."""
        if self.persistent:
            store.flush()
            store.close()
        else:
            store.delete()

    def flush(self) -> None:
        """Hand what later runs share to the disk."""
        for store in self._open if self.persistent else ():
            store.flush()

    def close(self) -> None:
        """Let go of every store, whatever happened."""
        for store in self._open:
            store.close()


DISK_TYPES = {torch.float32: "float32", torch.bfloat16: "int16"}


def to_disk(features: Tensor) -> np.ndarray:
    """Features as an array that numpy can store without loss: bfloat16 as its 16 bits."""
    features = features.cpu()
    return (features.view(torch.int16) if features.dtype == torch.bfloat16 else features).numpy()


def from_disk(array: np.ndarray) -> Tensor:
    """What `to_disk` was given."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
