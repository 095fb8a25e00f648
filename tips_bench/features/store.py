"""Arrays on disk that many processes fill item by item, that survive a kill, and are found again by what they hold.

A store is a folder. Each process that writes has a part of its own there: a file an array, to which the rows of an item are appended,
and an index, to which the item is appended after them with a CRC-32 an array. So nothing is locked, no two processes write to one file,
and an item whose rows are not what was written (a kill, a power cut, a fault of the disk) is missing: a run taken up again does only
what is missing. Once every item is there, one process joins the parts to a single one in the order of the items, which is then mapped.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import cannot_write, free_bytes, sync, temporary_folder
from tips_bench.ranks import ALONE, World

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""name -> (shape of a row, dtype)"""
HEADER = "header.json"
FORGOTTEN = 24 * 3600  # seconds without a new item after which a part is nobody's
KINDS = ("writing", "index")  # in this order: a part that is closed meanwhile is met as an index
LOOKS = 3  # of a store whose joined part other runs replace


class ResumableArray:
    """Named arrays of rows, `rows[i]` of them for item i.

    folder: created if absent, taken up if it holds the same layout and content, else emptied. content: a text of what shapes the rows.
    world: the ranks that fill it together; each of them makes the same calls. arrays: the whole arrays, read only, after `join`.
    Errors: a disk without the space.
    """

    def __init__(self, folder: Path, rows: Sequence[int], arrays: Layout, content: str = "", world: World = ALONE) -> None:
        self.folder, self.world, self._layout = folder, world, dict(arrays)
        self.starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.arrays: dict[str, np.memmap] = {}
        if not self.starts[-1]:
            raise UserError("there is nothing to store", where=folder)
        kinds = {name: [list(shape), dtype] for name, (shape, dtype) in arrays.items()}
        if world.is_first:
            self._take_up(json.dumps({"rows": list(map(int, rows)), "arrays": kinds, "content": content}))
        world.barrier()
        self._own: _Part | None = None
        self._known: dict[str, _Part] = {}
        self._look()
        world.barrier()  # none writes before all have seen the same items

    def _take_up(self, header: str) -> None:
        if _header(self.folder) == header:
            return
        if _header(self.folder) is not None:
            remove(self.folder)
        needed = sum(int(self.starts[-1]) * row_bytes(*kind) for kind in self._layout.values())
        try:
            with temporary_folder(self.folder) as begun:
                free = free_bytes(begun)
                if free < needed:
                    problem = f"needs {needed / 1e9:.2f} GB, and the disk has {free / 1e9:.2f} GB free"
                    raise UserError(problem, where=self.folder, fix="Free space there or choose another folder.")
                (begun / HEADER).write_text(header, encoding="utf-8")
                _put(begun, self.folder, header)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def _look(self) -> None:
        """Find every item that some part holds whole."""
        items = len(self.starts) - 1
        self._parts: list[_Part] = []
        self._part_N, self._row_N = np.full(items, -1, np.int32), np.zeros(items, np.int64)
        present = _part_names(self.folder)
        self._known = {name: part for name, part in self._known.items() if name in present}
        for name in present:
            part = self._known.setdefault(name, _Part(self.folder, name, self._layout))
            part.look(np.diff(self.starts))
            if part.items:
                self._part_N[part.items], self._row_N[part.items] = len(self._parts), part.rows
            self._parts.append(part)

    def missing(self) -> list[int]:
        """Items that are not written yet."""
        return np.flatnonzero(self._part_N < 0).tolist()

    def rows(self, item: int) -> slice:
        """The rows of an item in the whole arrays."""
        return slice(int(self.starts[item]), int(self.starts[item + 1]))

    def write(self, item: int, **values: np.ndarray) -> None:
        """Append the rows of one item, then mark it done. Errors: values of another shape; a full disk."""
        number = int(self.starts[item + 1] - self.starts[item])
        rows = {name: np.empty((number, *shape), dtype) for name, (shape, dtype) in self._layout.items()}
        for name, array in rows.items():
            array[...] = values[name]
        if self._own is None:
            self._own = _Part(self.folder, f"part-{secrets.token_hex(8)}", self._layout)
            self._parts.append(self._own)
            self._known[self._own.name] = self._own
        try:
            row = self._own.append(item, rows)
        except UserError:
            self._let_go()  # what it has of the item is in no index; the next item begins a part of its own
            raise
        self._part_N[item], self._row_N[item] = len(self._parts) - 1, row

    def read(self, item: int, name: str) -> np.ndarray:
        """A copy of an item's rows of one array. Errors: an item that is missing."""
        if self._part_N[item] < 0:
            raise UserError(f"item {item} is missing", where=self.folder, fix="Run again.")
        number = int(self.starts[item + 1] - self.starts[item])
        return self._parts[self._part_N[item]].read(name, int(self._row_N[item]), number).copy()

    def join(self) -> ResumableArray:
        """Wait until every rank has written its items; then `arrays` are whole on every rank. Returns the store.

        Errors: an item that no rank has written.
        """
        self._let_go()
        self.world.barrier()
        self._look()
        if missing := self.missing():
            raise UserError(f"{len(missing)} items are missing, the first is {missing[0]}", where=self.folder, fix="Run again.")
        self.world.barrier()  # none removes a part before all have looked
        if self.world.is_first and self._whole() is None:
            self._join_parts()
        self.world.barrier()
        self.arrays = self._mapped()
        self.world.barrier()  # none deletes what another has not mapped yet
        return self

    def _mapped(self) -> dict[str, np.memmap]:
        """The whole arrays. Errors: other runs change the parts all the time."""
        for _ in range(LOOKS):
            self._look()
            if whole := self._whole():
                with contextlib.suppress(FileNotFoundError):  # another run that joined the parts has just removed this one
                    return {name: whole.map(name, int(self.starts[-1])) for name in self._layout}
        raise UserError("the parts changed while they were joined", where=self.folder, fix="Run again.")

    def _whole(self) -> _Part | None:
        """The part with every item in order."""
        every = np.arange(len(self.starts) - 1)
        return next((part for part in self._parts if np.array_equal(part.items, every)), None)

    def _join_parts(self) -> None:
        """Write the part with every item in order, then remove the others; neither if another run does so at this moment."""
        whole = _Part(self.folder, f"part-{secrets.token_hex(8)}", self._layout)
        for item, number in enumerate(np.diff(self.starts)):
            rows = {name: self.read(item, name) for name in self._layout}
            if any(len(array) < number for array in rows.values()):
                whole.close()
                whole.remove()
                return
            whole.append(item, rows)
        whole.flush()
        whole.close()
        for part in self._parts:
            if part.is_closed():
                part.remove()

    def flush(self) -> None:
        """Hand what this process wrote to the disk: a power cut after it loses nothing."""
        for part in self._parts:
            part.flush()

    def delete(self) -> None:
        """Remove the folder, once for all ranks, when all have come to this: on a shared disk a slow one may still read."""
        self.close()
        self.world.barrier()
        if self.world.is_first:
            remove(self.folder)

    def _let_go(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None

    def close(self) -> None:
        """Let go of the files; a second time does nothing. What is mapped stays mapped."""
        self._let_go()
        for part in self._parts:
            part.close()
        self.arrays = {}


class _Part:
    """What one process wrote: NAME.ARRAY.bin, and NAME.writing, which is NAME.index once the process has closed it.

    items: those that it holds whole, in the order of writing; rows: where each begins.
    """

    def __init__(self, folder: Path, name: str, layout: Layout) -> None:
        self.folder, self.name, self.layout = folder, name, layout
        self.record = np.dtype([("item", "<u8"), ("row", "<u8"), ("checks", "<u4", (len(layout),)), ("own", "<u4")])
        self.items: list[int] = []
        self.rows: list[int] = []
        self._looked = 0  # records of the index that were read
        self._readers: dict[str, int] = {}
        self._writers: dict[str, int] = {}
        self._end = 0

    def path(self, kind: str) -> Path:
        """One of its files."""
        return self.folder / f"{self.name}.{kind}"

    def look(self, rows_N: np.ndarray) -> None:
        """Take in what was written since the last time. rows_N: how many rows an item has."""
        for record in self._index()[self._looked :]:
            self._looked += 1
            item, row = int(record["item"]), int(record["row"])
            if _own_check(record) != record["own"] or item >= len(rows_N):
                continue
            number = int(rows_N[item])
            found = [self.read(name, row, number) for name in self.layout]
            if all(len(rows) == number for rows in found) and [checksum(rows) for rows in found] == record["checks"].tolist():
                self._note(item, row)

    def _index(self) -> np.ndarray:
        for kind in KINDS:
            try:
                data = self.path(kind).read_bytes()
            except FileNotFoundError:
                continue
            return np.frombuffer(data[: len(data) // self.record.itemsize * self.record.itemsize], self.record)
        return np.zeros(0, self.record)

    def _note(self, item: int, row: int) -> None:
        self.items.append(item)
        self.rows.append(row)

    def append(self, item: int, rows: Mapping[str, np.ndarray]) -> int:
        """Write the rows of an item behind those that are there; returns where they begin. Errors: a full disk."""
        record = np.zeros((), self.record)
        record["item"], record["row"], record["checks"] = item, self._end, [checksum(array) for array in rows.values()]
        record["own"] = _own_check(record)
        try:
            for name, array in rows.items():
                write_all(self._writer(f"{name}.bin"), array)
            write_all(self._writer("writing"), record)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        start, self._end = self._end, self._end + len(next(iter(rows.values())))
        self._looked += 1
        self._note(item, start)
        return start

    def _writer(self, kind: str) -> int:
        if kind not in self._writers:
            self._writers[kind] = os.open(self.path(kind), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self._writers[kind]

    def read(self, name: str, row: int, number: int) -> np.ndarray:
        """Rows of one array; fewer where its file is cut off."""
        shape, dtype = self.layout[name]
        size = row_bytes(shape, dtype)
        try:
            if name not in self._readers:
                self._readers[name] = os.open(self.path(f"{name}.bin"), os.O_RDONLY)
            data = os.pread(self._readers[name], number * size, row * size)
        except OSError:
            data = b""
        whole = len(data) // size if size else 0
        return np.frombuffer(data[: whole * size], dtype).reshape(whole, *shape)

    def map(self, name: str, rows: int) -> np.memmap:
        """The first rows of one array, from its file, which never changes by it."""
        shape, dtype = self.layout[name]
        return np.memmap(self.path(f"{name}.bin"), dtype=dtype, mode="c", shape=(rows, *shape))

    def is_closed(self) -> bool:
        """Whether nobody writes to it any more."""
        if self.path("index").exists():
            return True
        try:
            return time.time() - self.path("writing").stat().st_mtime > FORGOTTEN
        except OSError:
            return True

    def flush(self) -> None:
        """Hand what this process wrote to the disk."""
        if self._end:
            for kind in ("index", "writing", *(f"{name}.bin" for name in self.layout)):
                with contextlib.suppress(FileNotFoundError):
                    sync(self.path(kind))

    def close(self) -> None:
        """Write no more to it, and let go of its files; of a part that holds no item, nothing is left."""
        if self._writers and self.items:
            os.replace(self.path("writing"), self.path("index"))
        elif self._writers:
            self.remove()
        for descriptor in (*self._writers.values(), *self._readers.values()):
            os.close(descriptor)
        self._writers, self._readers = {}, {}

    def remove(self) -> None:
        """The index goes first: what a kill leaves of the rest is no part."""
        for path in (self.path("index"), self.path("writing"), *(self.path(f"{name}.bin") for name in self.layout)):
            path.unlink(missing_ok=True)


def write_all(descriptor: int, array: np.ndarray) -> None:
    """Append an array's bytes to an open file."""
    rest = memoryview(array.tobytes())
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _own_check(record: np.ndarray) -> int:
    """Of a record of an index, without its last field."""
    return zlib.crc32(record.tobytes()[:-4])


def _part_names(folder: Path) -> list[str]:
    return sorted({path.stem for kind in KINDS for path in folder.glob(f"part-*.{kind}")})


def row_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a row."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def checksum(rows: np.ndarray) -> int:
    """CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data) if rows.size else 0


def _header(folder: Path) -> str | None:
    """Of the store in a folder; None where there is none."""
    try:
        return (folder / HEADER).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _put(begun: Path, folder: Path, header: str) -> None:
    """Give an empty store its name, unless another process has just done that. What a kill left there goes. Errors: an OSError."""
    try:
        os.rename(begun, folder)
    except OSError:
        if _header(folder) != header:
            remove(folder)
            os.rename(begun, folder)


def remove(folder: Path) -> None:
    """Delete a store. The header goes first: what a kill leaves of the rest is no store."""
    (folder / HEADER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
