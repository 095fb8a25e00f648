"""Features appended to parts of one process, within the limit of a cache that others fill, too."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from pathlib import Path

import numpy as np

from tips_bench.features.parts import ABOUT, RECORD, Place, own_check
from tips_bench.features.store import checksum, write_all
from tips_bench.features.upkeep import prune
from tips_bench.files import cannot_write, write_text
from tips_bench.journal import warn

PART_BYTES = 1 << 30
PARTS_WITHIN_LIMIT = 128
LOOK_AGAIN = 60  # seconds until room is sought again where there was none


class PartWriter:
    """Appends arrays: first their values, then a record in the part's index.

    folder: of one encoder, made when the first array comes. about: what stands in its `about.json`. most_bytes: for all encoders beside
    it, whatever process writes them; None = no limit. A new part begins at PART_BYTES or a 128th of the limit, and only once there is
    room for a whole one: what was not used for longest is deleted for it. What any process used since this writer was made stays.
    So processes that write at the same time exceed the limit by no more than a part each.
    """

    def __init__(self, folder: Path, about: dict[str, str], most_bytes: int | None = None) -> None:
        self.folder, self.about, self.most_bytes = folder, about, most_bytes
        self.part_bytes = PART_BYTES if most_bytes is None else min(PART_BYTES, most_bytes // PARTS_WITHIN_LIMIT)
        self._began = 0.0 if most_bytes is None else time_there(folder.parent)
        self._full_until, self._said = 0.0, False
        self._part, self._end, self._size = Path(), 0, 0
        self._data: int | None = None
        self._index: int | None = None

    def append(self, key: bytes, kind: str, array_PD: np.ndarray) -> Place | None:
        """Where the array lies now; None where the limit leaves no room for it. Errors: a full disk."""
        try:
            if not self._ready(array_PD.nbytes + RECORD.itemsize):
                return None
            return self._append(key, kind, array_PD)
        except OSError as error:
            self._close()
            raise cannot_write(self.folder, error) from error

    def _append(self, key: bytes, kind: str, array_PD: np.ndarray) -> Place:
        assert self._data is not None and self._index is not None
        place = Place(self._part, self._end, len(array_PD), array_PD.shape[1], checksum(array_PD))
        record = np.zeros((), RECORD)
        record["key"], record["kind"] = key, kind.encode()
        record["offset"], record["rows"], record["columns"], record["check"] = place[1:]
        record["own"] = own_check(record)
        write_all(self._data, array_PD)
        write_all(self._index, record)
        self._end += array_PD.nbytes
        self._size += array_PD.nbytes + RECORD.itemsize
        return place

    def _ready(self, size: int) -> bool:
        """Whether there is an open part with room for so many bytes."""
        full = self._size > 0 and self._size + size > self.part_bytes
        if self._index is not None and (full or _is_deleted(self._index)):
            self._close()
        if self._index is None and self._has_room(max(size, self.part_bytes)):
            self._begin()
        return self._index is not None

    def _has_room(self, size: int) -> bool:
        if self.most_bytes is None:
            return True
        if size > self.most_bytes or time.monotonic() < self._full_until:
            return False
        _, left = prune(self.folder.parent, self.most_bytes - size, before=self._began)
        if left + size <= self.most_bytes:
            return True
        self._full_until = time.monotonic() + LOOK_AGAIN
        if not self._said:
            holds = f"the cache holds {left / 1e9:.2f} GB of at most {self.most_bytes / 1e9:.2f} GB, all of it in use"
            warn(f"{holds}: further features are not kept")
            self._said = True
        return False

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / ABOUT, json.dumps(self.about))
        self._part, self._end, self._size = self.folder / f"part-{secrets.token_hex(8)}.bin", 0, 0
        self._index = _open(self._part.with_suffix(".index"))  # first: a part is never deleted without it, which is noticed
        self._data = _open(self._part)

    def _close(self) -> None:
        """Of a part that holds nothing, no file is left."""
        for descriptor in (self._data, self._index):
            if descriptor is not None:
                os.close(descriptor)
        if self._data is not None and not self._size:
            for path in (self._part.with_suffix(".index"), self._part):
                with contextlib.suppress(OSError):
                    path.unlink()
        self._data = self._index = None

    def duplicate(self) -> int:
        """A descriptor of the part that was written to last, for reading."""
        assert self._data is not None
        return os.dup(self._data)

    def flush(self) -> None:
        """Hand what was kept to the disk."""
        for descriptor in (self._data, self._index):
            if descriptor is not None and not _is_deleted(descriptor):
                os.fsync(descriptor)

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self._close()


def time_there(folder: Path) -> float:
    """Seconds since 1970 by the clock that the folder's times are of, a server's on a shared disk. Errors: no such folder can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        return folder.stat().st_mtime
    except OSError as error:
        raise cannot_write(folder, error) from error


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)


def _is_deleted(descriptor: int) -> bool:
    """Whether a process, here or on another machine, has deleted the open file."""
    try:
        return os.fstat(descriptor).st_nlink == 0
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return True
