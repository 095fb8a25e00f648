"""Pairs of images that are the same picture: candidates whose thumbnails agree. A file of pairs for each file of signatures.

Axes: P pairs, N images of the file, R candidates, S pixels of a thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.corpus.curation.candidates import NOTHING, candidates
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.looks import agreement
from tips_bench.npz import read_npz, save_npz


@dataclass(frozen=True)
class Pairs:
    """rows_P: of the images that were looked for. others_P: rows of what they were found to be, in the library they were looked for in.

    agreement_P: correlation of the thumbnails.
    """

    rows_P: np.ndarray
    others_P: np.ndarray
    agreement_P: np.ndarray


def find_pairs(folder: str, number: int, among: str, card: dict[str, Any], done: str) -> None:
    """Look for the images of one file of the library `folder` in the library `among`; in their own one, a pair may be named twice."""
    library, others, settings = Library.load(Path(folder)), Library.load(Path(among)), DuplicateCard(**card)
    own, itself = library.read(number), library.rows(number) if folder == among else None
    rows_NR = candidates(own.embeddings_ND, own.hashes_N4, others, settings, itself)
    places, found = (rows_NR != NOTHING).nonzero()[0], rows_NR[rows_NR != NOTHING]
    pairs = np.unique(np.stack([places, found], 1), axis=0)
    agreement_P = np.zeros(len(pairs))
    for file, places_P in _by_file(others, pairs[:, 1]):
        thumbnails_NSS, sizes_N2 = (others.array(file, name) for name in ("thumbnails_NSS", "sizes_N2"))
        for place in places_P:
            one, other = int(pairs[place, 0]), int(pairs[place, 1]) - others.rows(file).start
            aspects = _aspect(own.sizes_N2[one]), _aspect(sizes_N2[other])
            looks = own.thumbnails_NSS[one], thumbnails_NSS[other]
            agreement_P[place] = agreement(*looks, aspects, settings.least_scale, settings.agreement)
    same_P = agreement_P >= settings.agreement
    rows_P = pairs[same_P, 0] + library.rows(number).start
    save_npz(Path(done), rows_P=rows_P, others_P=pairs[same_P, 1], agreement_P=agreement_P[same_P])


def _by_file(library: Library, rows_P: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(number of a file, places of rows_P that are rows of it) of each file that has any."""
    files_P = np.searchsorted(library.starts, rows_P, side="right") - 1
    return [(int(file), np.flatnonzero(files_P == file)) for file in np.unique(files_P)]


def _aspect(size_2: np.ndarray) -> float:
    return float(size_2[1]) / float(size_2[0])


def load_pairs(files: list[Path]) -> Pairs:
    """All pairs of the files, in their order."""
    names = ("rows_P", "others_P", "agreement_P")
    parts = [read_npz(file, "file of pairs", lambda data: [data[name] for name in names]) for file in files]
    empty = [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)]
    return Pairs(*(np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True)))
