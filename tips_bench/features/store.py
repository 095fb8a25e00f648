"""Arrays on disk that are filled item by item, survive a kill, and are found again by what they hold.

A store is a folder: one flat file an array, `done.bin` with a byte an item, `header.json`. An item's byte is set after its
rows are written, so a run taken up again does only what is missing. Space is reserved at creation: a full disk is an error
then, not a crash later.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import cannot_write, write_text


class Store:
    """Named arrays of rows, `rows[i]` of them for item i.

    folder: created if absent, taken up if it holds the same layout, else emptied. arrays: name -> (shape of a row, dtype).
    """

    def __init__(self, folder: Path, rows: Sequence[int], arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        self.folder = folder
        self.starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self.arrays: dict[str, np.memmap] = {}
        header = json.dumps({"rows": list(map(int, rows)), "arrays": {name: [list(shape), dtype] for name, (shape, dtype) in arrays.items()}})
        marker = folder / "header.json"
        if not marker.is_file() or marker.read_text(encoding="utf-8") != header:
            self._create(arrays, header)
        for name, (shape, dtype) in arrays.items():
            self.arrays[name] = self._map(name, (int(self.starts[-1]), *shape), dtype)
        self._done = self._map("done", (len(rows),), "uint8")

    def _create(self, arrays: Mapping[str, tuple[tuple[int, ...], str]], header: str) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        sizes = {name: int(self.starts[-1]) * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for name, (shape, dtype) in arrays.items()}
        try:
            self.folder.mkdir(parents=True)
            for name, size in {**sizes, "done": len(self.starts) - 1}.items():
                with (self.folder / f"{name}.bin").open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(size, 1))
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            needed = sum(sizes.values()) / 1e9
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
        """Write all arrays of one item, then mark it done."""
        for name, array in self.arrays.items():
            array[self.rows(item)] = values[name]
        self._done[item] = 1

    def read(self, item: int, name: str) -> np.ndarray:
        """The rows of an item, copied into memory."""
        return np.array(self.arrays[name][self.rows(item)])

    def delete(self) -> None:
        """Remove the folder."""
        self.arrays.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
