"""Cells: images of a large corpus that look alike, put together, so that copies are looked for among them alone.

All pairs of N images are a work of N x N. So images are divided into cells of one average size (`CellCard`), by k-means, as an inverted
file of faiss does it, and an image is compared with the images of the cells whose centroids are nearest: its own, of which it is a member,
and others, which it visits. Inside a cell the comparison is exact. What is missed is a copy that lies in a cell that was not visited.

Images are divided twice, because a copy may be found by its embedding or by its hashes alone: by embeddings, and by hashes, where an image
also visits the cells that are nearest to its mirrored self. The work of an image grows with the corpus only by the centroids that it is
compared with, and whoever compares a cell needs none of the others.

Files are divided a part at a time, each of which leaves two: NAME.entries, all that is known of each image, once for each cell that it is
a member or a visitor of, in the order of the cells; and NAME.npy, where the members and the visitors of each cell begin there.

Axes: N images, n of a part, K cells, V cells of an image, E entries, D features, 4 hashes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.corpus.curation.candidates import Block, By
from tips_bench.corpus.curation.card import CellCard
from tips_bench.corpus.curation.kmeans import BLOCK_VALUES, Points, kmeans
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.looks import COARSE, SIDE, Thumbnail
from tips_bench.corpus.curation.signatures import Signatures
from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.npz import read_npz, save_npz

PART = 1 << 18  # images of a part, or those of one file where it has more
BLOCK = 1 << 15  # entries of a cell that are in memory at once


def make_centroids(library: Library, by: By, card: CellCard, seed: int, file: Path) -> None:
    """Find the centroids of the cells by k-means on a sample, which is in memory, and write them."""
    cells = max(1, len(library) // card.images)
    rng = np.random.default_rng([seed, cells])
    dim = _vectors(library, 0, by)[0].shape[1]
    points = Points(len(library), dim, lambda: (_vectors(library, number, by)[0] for number in range(len(library.files))))
    rows = np.sort(rng.choice(len(library), min(len(library), cells * card.sample), replace=False))
    save_npz(file, centroids_KD=kmeans(Points.of(points.at(rows)), cells, card.iterations, rng))


def read_centroids(file: Path) -> np.ndarray:
    """[K,D]. Errors: a file that is missing or broken."""
    return read_npz(file, "file of centroids", lambda data: data["centroids_KD"])


def _vectors(library: Library, number: int, by: By) -> list[np.ndarray]:
    """[N,D] float32 of length 1, of the images of a file: embeddings; or the bits of both hashes, as they are and mirrored."""
    if by == "embedding":
        return [library.array(number, "embeddings_ND").astype(np.float32)]
    bytes_N = np.ascontiguousarray(library.array(number, "hashes_N4"), ">u8").view(np.uint8)
    signs_ND = (2 * np.unpackbits(bytes_N, axis=1).astype(np.float32) - 1) / np.float32(128**0.5)
    return [signs_ND[:, :128], signs_ND[:, 128:]]


def cells_of(vectors: Sequence[np.ndarray], centroids_KD: np.ndarray, visited: int) -> np.ndarray:
    """[N,V] the cells of images: their own, then those they visit; -1 in place of one that is there already. vectors: as `_vectors`."""
    cells_NV = np.concatenate([nearest_cells(vectors_ND, centroids_KD, visited) for vectors_ND in vectors], 1)
    for place in range(1, cells_NV.shape[1]):
        cells_NV[(cells_NV[:, :place] == cells_NV[:, place, None]).any(1), place] = -1
    return cells_NV


def nearest_cells(embeddings_ND: np.ndarray, centroids_KD: np.ndarray, count: int) -> np.ndarray:
    """[N,V] the cells with the nearest centroids, the nearest first, of equal ones the lower; all where there are fewer than `count`."""
    count = min(count, len(centroids_KD))
    halves_K = (centroids_KD.astype(np.float64) ** 2).sum(1).astype(np.float32) / 2
    step = max(1, BLOCK_VALUES // len(centroids_KD))
    found = [np.zeros((0, count), np.int64)]
    for start in range(0, len(embeddings_ND), step):
        far_nK = halves_K - embeddings_ND[start : start + step].astype(np.float32) @ centroids_KD.T
        cells_nV = np.sort(np.argpartition(far_nK, count - 1, axis=1)[:, :count], axis=1)
        order_nV = np.argsort(np.take_along_axis(far_nK, cells_nV, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(cells_nV, order_nV, 1))
    return np.concatenate(found)


def parts(library: Library) -> list[tuple[int, int]]:
    """(first file, the one behind its last) of each part."""
    found, first = list[tuple[int, int]](), 0
    for number in range(len(library.files)):
        if library.starts[number + 1] - library.starts[first] >= PART or number + 1 == len(library.files):
            found.append((first, number + 1))
            first = number + 1
    return found


def divide(folder: str, first: int, behind: int, by: By, centroids: str, visited: int, done: str) -> None:
    """Write the entries of a part, the files first to behind (exclusive) of the library `folder`, and last their index, `done`.

    centroids: the file of `make_centroids`. visited: cells that are nearest to an image, and as many to its mirrored self.
    """
    library, centroids_KD, files = Library.load(Path(folder)), read_centroids(Path(centroids)), range(first, behind)
    cells_nV = np.concatenate([cells_of(_vectors(library, number, by), centroids_KD, visited) for number in files])
    kinds_nV = 2 * cells_nV + (np.arange(cells_nV.shape[1]) > 0)  # of each cell first its members, then its visitors
    kinds_nV[cells_nV < 0] = 2 * len(centroids_KD)
    places_nV = np.empty(kinds_nV.shape, np.int64)
    places_nV.ravel()[np.argsort(kinds_nV, axis=None, kind="stable")] = np.arange(kinds_nV.size)
    begins = np.searchsorted(np.sort(kinds_nV, axis=None), np.arange(2 * len(centroids_KD) + 1))
    with atomic(Path(done).with_suffix(".entries")) as temporary:
        kind = _entry(library.dim if by == "embedding" else 0)
        entries = np.lib.format.open_memmap(temporary, "w+", kind, (int(begins[-1]),))
        for number in files:
            rows = library.rows(number)
            made_n = _entries(library.read(number), rows.start, kind)
            for places_n in places_nV[rows.start - library.starts[first] : rows.stop - library.starts[first]].T:
                written_n = places_n < begins[-1]
                entries[places_n[written_n]] = made_n[written_n]
        entries.flush()
        del entries
    with atomic(Path(done)) as temporary, temporary.open("wb") as out:
        np.save(out, begins)


LOOKS = {"size": "sizes_N2", "hashes": "hashes_N4", "thumbnail": "thumbnails_NSS", "colors": "colors_NCC2"}
"""Field of an entry -> the array of signatures that it is taken from."""


def _entry(dim: int) -> np.dtype[np.void]:
    """What is kept of an image: its row in the library, and of its signatures what a comparison needs. dim: 0 leaves embeddings out."""
    looks = [("thumbnail", np.uint8, (SIDE, SIDE)), ("colors", np.uint8, (COARSE, COARSE, 2))]
    return np.dtype([("row", np.int64), ("hashes", np.uint64, (4,)), ("size", np.int64, (2,)), *looks, ("embedding", np.float16, (dim,))])


def _entries(signatures: Signatures, start: int, kind: np.dtype[np.void]) -> np.ndarray:
    made_n = np.zeros(len(signatures), kind)
    made_n["row"] = start + np.arange(len(signatures))
    for field, name in LOOKS.items():
        made_n[field] = getattr(signatures, name)
    made_n["embedding"] = signatures.embeddings_ND[:, : kind["embedding"].shape[0]]
    return made_n


@dataclass(frozen=True)
class Held:
    """Entries that are in memory."""

    entries_N: np.ndarray

    @property
    def rows_N(self) -> np.ndarray:
        """Their rows in the library."""
        return self.entries_N["row"]

    @property
    def embeddings_ND(self) -> np.ndarray:
        return self.entries_N["embedding"]

    @property
    def hashes_N4(self) -> np.ndarray:
        return self.entries_N["hashes"]

    def thumbnail(self, place: int) -> Thumbnail:
        """That of one image."""
        entry = self.entries_N[place]
        height, width = entry["size"].tolist()
        return Thumbnail(entry["thumbnail"], entry["colors"], width / height)


def held(library: Library, rows_N: np.ndarray) -> Held:
    """Images of a library by their rows, without embeddings. Of each file only these images are read."""
    entries_N = np.zeros(len(rows_N), _entry(0))
    entries_N["row"] = rows_N
    for number, places_n in library.by_file(rows_N):
        looks, inside_n = library.looks(number), rows_N[places_n] - library.rows(number).start
        for field, name in LOOKS.items():
            entries_N[field][places_n] = looks[name][inside_n]
    return Held(entries_N)


@dataclass(frozen=True)
class Entries:
    """Entries of one kind in a cell: in the parts' files, first to behind (exclusive) of each, together in the order of their rows."""

    stretches: Sequence[tuple[Path, int, int]]

    def __len__(self) -> int:
        return sum(behind - first for _, first, behind in self.stretches)

    def in_memory(self) -> Iterator[tuple[int, Held]]:
        """(place of its first entry, entries) of one block after another."""
        for start in range(0, len(self), BLOCK):
            found, before = list[np.ndarray](), 0
            for file, first, behind in self.stretches:
                own = slice(first + max(0, start - before), min(behind, first + start + BLOCK - before))
                if own.start < own.stop:
                    found.append(np.array(np.load(file, mmap_mode="r")[own]))
                before += behind - first
            yield start, Held(np.concatenate(found))

    def blocks(self) -> Iterator[Block]:
        """One block after another."""
        for start, held in self.in_memory():
            yield Block(start, held.embeddings_ND, held.hashes_N4, held.entries_N["size"].prod(1))


def read_cell(folder: Path, number: int) -> tuple[Entries, Entries]:
    """(members, visitors) of a cell. folder: with all parts. Errors: an index that is broken."""
    kinds: tuple[list[tuple[Path, int, int]], ...] = ([], [])
    for index in sorted(folder.glob("[!.]*.npy")):
        try:
            begins = np.load(index, mmap_mode="r")[2 * number : 2 * number + 3].tolist()
        except (OSError, ValueError) as error:
            fix = "Delete its folder and run again."
            raise UserError("not an index of the images of cells, or a broken one", where=index, fix=fix) from error
        for stretches, first, behind in zip(kinds, begins, begins[1:], strict=False):
            if first < behind:
                stretches.append((index.with_suffix(".entries"), first, behind))
    members, visitors = kinds
    return Entries(members), Entries(visitors)
