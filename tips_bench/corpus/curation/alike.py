"""Pairs of images that are the same picture: candidates whose thumbnails agree. A file of pairs for each file of signatures, or cell.

Axes: P pairs, N images of the file or entries of a block, R candidates, S pixels of a thumbnail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tips_bench.corpus.curation.candidates import NOTHING, By, candidates
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.cells import read_cell
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.looks import Overlay, Thumbnail, hash_bits, overlays
from tips_bench.corpus.curation.signatures import Signatures
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


class Looks(Protocol):
    """What a file of signatures, or a block of a cell, knows of how its images look."""

    @property
    def hashes_N4(self) -> np.ndarray: ...

    def thumbnail(self, place: int) -> Thumbnail: ...


def find_pairs(folder: str, number: int, among: str, card: dict[str, Any], done: str) -> None:
    """Look for the images of one file of the library `folder` in the library `among`; in their own one, a pair may be named twice.

    Another one holds data sets. Candidates are found in each by itself: so the like images of one hide none of another.
    """
    library, others, settings = Library.load(Path(folder)), Library.load(Path(among)), DuplicateCard(**card)
    own = library.read(number)
    if folder == among:
        rows_NR = candidates(own.embeddings_ND, own.hashes_N4, others, settings, library.rows(number))
    else:
        rows_NR = _candidates_of_each_set(own, others, settings)
    pairs_P2 = np.unique(np.stack([(rows_NR != NOTHING).nonzero()[0], rows_NR[rows_NR != NOTHING]], 1), axis=0)
    agreement_P, bits_P = np.zeros(len(pairs_P2)), np.zeros(len(pairs_P2), np.uint8)
    for file, places_P in others.by_file(pairs_P2[:, 1]):
        near_P2 = pairs_P2[places_P] - [0, others.rows(file).start]
        agreement_P[places_P], bits_P[places_P] = compare(own, others.read(file), near_P2, settings)
    found = Pairs(pairs_P2[:, 0] + library.rows(number).start, pairs_P2[:, 1], agreement_P, bits_P)
    save_npz(Path(done), **vars(found.at(same_picture(agreement_P, bits_P, settings))))


def _candidates_of_each_set(own: Signatures, sets: Library, card: DuplicateCard) -> np.ndarray:
    """[N,R] rows of the sets. The largest of a set is of no use: none goes for it."""
    card, found = card.model_copy(update={"largest": 0}), [np.zeros((len(own), 0), np.int64)]
    for files in sets.by_source().values():
        rows_NR = candidates(own.embeddings_ND, own.hashes_N4, sets.part(files), card, None)
        found.append(np.where(rows_NR == NOTHING, NOTHING, rows_NR + sets.starts[files.start]))
    return np.concatenate(found, 1)


def find_pairs_in_cell(folder: str, number: int, by: By, card: dict[str, Any], done: str) -> None:
    """Look for the members and the visitors of a cell among its members; a pair may be named twice. folder: of the cells' parts.

    by: what the cells were divided by, and candidates are found by.
    """
    settings, found = DuplicateCard(**card), list[Pairs]()
    members, visitors = read_cell(Path(folder), number)
    for entries in (members, visitors):
        for first, own in entries.in_memory():
            itself = slice(first, first + len(own.rows_N)) if entries is members else None
            places_NR = candidates(own.embeddings_ND, own.hashes_N4, members, settings, itself, [by])
            for start, others in members.in_memory():
                inside_NR = (places_NR >= start) & (places_NR < start + len(others.rows_N))
                pairs_P2 = np.stack([inside_NR.nonzero()[0], places_NR[inside_NR] - start], 1)
                if itself is not None and start == first:
                    pairs_P2.sort(axis=1)  # of two images that are near to each other, one pair
                pairs_P2 = np.unique(pairs_P2, axis=0)
                agreement_P, bits_P = compare(own, others, pairs_P2, settings)
                pairs = Pairs(own.rows_N[pairs_P2[:, 0]], others.rows_N[pairs_P2[:, 1]], agreement_P, bits_P)
                found.append(pairs.at(same_picture(agreement_P, bits_P, settings)))
    save_npz(Path(done), **vars(joined(found)))


def compare(own: Looks, others: Looks, pairs_P2: np.ndarray, card: DuplicateCard) -> tuple[np.ndarray, np.ndarray]:
    """(agreement_P, bits_P uint8) of pairs of places, the first in `own`, the second in `others`."""
    found = [agreement(own.thumbnail(one), others.thumbnail(other), card) for one, other in pairs_P2.tolist()]
    return np.array(found, np.float64), hash_bits(own.hashes_N4[pairs_P2[:, 0]], others.hashes_N4[pairs_P2[:, 1]])


def load_pairs(files: list[Path]) -> Pairs:
    """All pairs of the files, in their order."""
    return joined([read_npz(file, "file of pairs", lambda data: Pairs(*(data[name] for name in Pairs.__annotations__))) for file in files])


def joined(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of the parts, in their order."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in (NONE, *parts)]) for name in Pairs.__annotations__))
