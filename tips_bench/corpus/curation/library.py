"""The signature files of a folder as one long table, read a file at a time.

A row is an image: the rows of the first file come first. What a row is found by, its file and place there, is in library.json.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tips_bench.corpus.curation.candidates import Block
from tips_bench.corpus.curation.signatures import Signatures, map_looks, read_array, read_signatures
from tips_bench.files import write_text

LISTED = "library.json"


@dataclass(frozen=True)
class Library:
    """files: of signatures, in their order. counts: images of each. sources: what each file is of, a shard's name or "TASK ROLE"."""

    folder: Path
    files: list[str]
    counts: list[int]
    sources: list[str]

    @classmethod
    def make(cls, folder: Path, sources: dict[str, str]) -> Library:
        """List the files of a folder. sources: file -> what it is of."""
        counts = [len(read_array(folder / file, "places_N")) for file in sources]
        library = cls(folder, list(sources), counts, list(sources.values()))
        said = {"files": library.files, "counts": counts, "sources": library.sources}
        write_text(folder / LISTED, json.dumps(said) + "\n", durable=True)
        return library

    @classmethod
    def load(cls, folder: Path) -> Library:
        """What `make` listed."""
        return cls(folder, **json.loads((folder / LISTED).read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return self.starts[-1]

    @property
    def dim(self) -> int:
        """D: features of an embedding."""
        return int(self.array(0, "embeddings_ND").shape[1])

    @cached_property
    def starts(self) -> list[int]:
        """The first row of each file and, last, the number of rows."""
        return [0, *np.cumsum(self.counts, dtype=np.int64).tolist()]

    def rows(self, number: int) -> slice:
        """The rows of a file."""
        return slice(self.starts[number], self.starts[number + 1])

    def find(self, row: int) -> tuple[int, int]:
        """(number of its file, place in the file) of a row."""
        number = bisect_right(self.starts, row) - 1
        return number, row - self.starts[number]

    def by_source(self) -> dict[str, range]:
        """Source -> numbers of its files, which lie one after another."""
        found = dict[str, range]()
        for number, source in enumerate(self.sources):
            found[source] = range(found[source].start if source in found else number, number + 1)
        return found

    def part(self, files: range) -> Library:
        """These files alone."""
        own = slice(files.start, files.stop)
        return Library(self.folder, self.files[own], self.counts[own], self.sources[own])

    def read(self, number: int) -> Signatures:
        """All signatures of a file."""
        return read_signatures(self.folder / self.files[number])

    def array(self, number: int, name: str) -> np.ndarray:
        """One array of a file."""
        return read_array(self.folder / self.files[number], name)

    def looks(self, number: int) -> dict[str, np.ndarray]:
        """What a comparison of single images of a file needs, see `map_looks`."""
        return map_looks(self.folder / self.files[number])

    def by_file(self, rows_P: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(number of a file, places of rows_P that are rows of it) of each file that has any."""
        files_P = np.searchsorted(self.starts, rows_P, side="right") - 1
        return [(int(file), np.flatnonzero(files_P == file)) for file in np.unique(files_P)]

    def pixels(self) -> np.ndarray:
        """[N] height times width of each image."""
        return np.concatenate([np.zeros(0, np.int64), *(self.array(n, "sizes_N2").prod(1) for n in range(len(self.files)))])

    def embeddings(self, kept_N: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, embeddings_nD float32) of each file. kept_N: only of these rows; the first row is then one of theirs."""
        first = 0
        for number in range(len(self.files)):
            found_nD = self.array(number, "embeddings_ND").astype(np.float32)
            if kept_N is not None:
                found_nD = found_nD[kept_N[self.rows(number)]]
            yield first, found_nD
            first += len(found_nD)

    def blocks(self) -> Iterator[Block]:
        """Each file."""
        for number in range(len(self.files)):
            embeddings_ND, hashes_N4, sizes_N2 = (self.array(number, name) for name in ("embeddings_ND", "hashes_N4", "sizes_N2"))
            yield Block(self.rows(number).start, embeddings_ND, hashes_N4, sizes_N2.prod(1))
