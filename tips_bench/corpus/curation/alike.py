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
from tips_bench.corpus.curation.looks import Overlay, Thumbnail, hash_distances, overlays
from tips_bench.npz import read_npz, save_npz


@dataclass(frozen=True)
class Pairs:
    """rows_P: of the images that were looked for. others_P: rows of what they were found to be, in the library they were looked for in.

    agreement_P: correlation of the thumbnails, see `agreement`. bits_P: by which the nearest of their hashes differ.
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


def agreement(one: Thumbnail, other: Thumbnail, card: DuplicateCard) -> float:
    """The best correlation of the gray values of two thumbnails that counts; 0 if none does."""
    found = overlays(one, other, card.least_scale, min(card.agreement, card.like_agreement))
    return max((overlay.agreement for overlay in found if _counts(overlay, card)), default=0.0)


def _counts(overlay: Overlay, card: DuplicateCard) -> bool:
    """Whether colors agree and, of a small part that shows little, gray values do so very well."""
    little = overlay.area < card.plain_area and overlay.edges < card.plain_edges
    return overlay.colors >= card.colors and (not little or overlay.agreement >= card.plain_agreement)


def find_pairs(folder: str, number: int, among: str, card: dict[str, Any], done: str) -> None:
    """Look for the images of one file of the library `folder` in the library `among`; in their own one, a pair may be named twice."""
    library, others, settings = Library.load(Path(folder)), Library.load(Path(among)), DuplicateCard(**card)
    own, itself = library.read(number), library.rows(number) if folder == among else None
    rows_NR = candidates(own.embeddings_ND, own.hashes_N4, others, settings, itself)
    pairs = np.unique(np.stack([(rows_NR != NOTHING).nonzero()[0], rows_NR[rows_NR != NOTHING]], 1), axis=0)
    agreement_P, bits_P = np.zeros(len(pairs)), np.zeros(len(pairs), np.uint8)
    for file, places_P in _by_file(others, pairs[:, 1]):
        theirs = others.read(file)
        for place in places_P:
            one, other = int(pairs[place, 0]), int(pairs[place, 1]) - others.rows(file).start
            agreement_P[place] = agreement(own.thumbnail(one), theirs.thumbnail(other), settings)
            bits_P[place] = hash_distances(own.hashes_N4[one, None], theirs.hashes_N4[other, None])[0, 0]
    found = Pairs(pairs[:, 0] + library.rows(number).start, pairs[:, 1], agreement_P, bits_P)
    save_npz(Path(done), **vars(found.at(same_picture(agreement_P, bits_P, settings))))


def _by_file(library: Library, rows_P: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(number of a file, places of rows_P that are rows of it) of each file that has any."""
    files_P = np.searchsorted(library.starts, rows_P, side="right") - 1
    return [(int(file), np.flatnonzero(files_P == file)) for file in np.unique(files_P)]


def load_pairs(files: list[Path]) -> Pairs:
    """All pairs of the files, in their order."""
    parts = [read_npz(file, "file of pairs", lambda data: Pairs(*(data[name] for name in Pairs.__annotations__))) for file in files]
    return Pairs(*(np.concatenate([getattr(part, name) for part in (NONE, *parts)]) for name in Pairs.__annotations__))
