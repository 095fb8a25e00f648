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
from tips_bench.corpus.curation.looks import agreement, hash_distances
from tips_bench.npz import read_npz, save_npz


@dataclass(frozen=True)
class Pairs:
    """rows_P: of the images that were looked for. others_P: rows of what they were found to be, in the library they were looked for in.

    agreement_P: correlation of the thumbnails. bits_P: by which the nearest of their hashes differ.
    """

    rows_P: np.ndarray
    others_P: np.ndarray
    agreement_P: np.ndarray
    bits_P: np.ndarray

    def at(self, places: np.ndarray) -> Pairs:
        """Some of them, by numbers or booleans."""
        return Pairs(*(getattr(self, name)[places] for name in self.__annotations__))


NONE = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))


def same_picture(agreement_P: np.ndarray, bits_P: np.ndarray, card: DuplicateCard) -> np.ndarray:
    """[P] whether thumbnails agree as well as the card asks for."""
    return (agreement_P >= card.agreement) | ((agreement_P >= card.like_agreement) & (bits_P <= card.like_bits))


def find_pairs(folder: str, number: int, among: str, card: dict[str, Any], done: str) -> None:
    """Look for the images of one file of the library `folder` in the library `among`; in their own one, a pair may be named twice."""
    library, others, settings = Library.load(Path(folder)), Library.load(Path(among)), DuplicateCard(**card)
    own, itself = library.read(number), library.rows(number) if folder == among else None
    rows_NR = candidates(own.embeddings_ND, own.hashes_N4, others, settings, itself)
    pairs = np.unique(np.stack([(rows_NR != NOTHING).nonzero()[0], rows_NR[rows_NR != NOTHING]], 1), axis=0)
    agreement_P, bits_P = np.zeros(len(pairs)), np.zeros(len(pairs), np.uint8)
    least = min(settings.agreement, settings.like_agreement)
    for file, places_P in _by_file(others, pairs[:, 1]):
        thumbnails_NSS, sizes_N2, hashes_N4 = (others.array(file, name) for name in ("thumbnails_NSS", "sizes_N2", "hashes_N4"))
        for place in places_P:
            one, other = int(pairs[place, 0]), int(pairs[place, 1]) - others.rows(file).start
            aspects = _aspect(own.sizes_N2[one]), _aspect(sizes_N2[other])
            looks = own.thumbnails_NSS[one], thumbnails_NSS[other]
            agreement_P[place] = agreement(*looks, aspects, settings.least_scale, least)
            bits_P[place] = hash_distances(own.hashes_N4[one, None], hashes_N4[other, None])[0, 0]
    found = Pairs(pairs[:, 0] + library.rows(number).start, pairs[:, 1], agreement_P, bits_P)
    save_npz(Path(done), **vars(found.at(same_picture(agreement_P, bits_P, settings))))


def _by_file(library: Library, rows_P: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(number of a file, places of rows_P that are rows of it) of each file that has any."""
    files_P = np.searchsorted(library.starts, rows_P, side="right") - 1
    return [(int(file), np.flatnonzero(files_P == file)) for file in np.unique(files_P)]


def _aspect(size_2: np.ndarray) -> float:
    return float(size_2[1]) / float(size_2[0])


def load_pairs(files: list[Path]) -> Pairs:
    """All pairs of the files, in their order."""
    parts = [read_npz(file, "file of pairs", lambda data: Pairs(*(data[name] for name in Pairs.__annotations__))) for file in files]
    return Pairs(*(np.concatenate([getattr(part, name) for part in (NONE, *parts)]) for name in Pairs.__annotations__))
