"""A second look for copies: of each pair, the image that stays for the one is compared with the image that stays for the other.

The candidates of an image are its nearest. Where a picture has many copies, those of a cut copy may all be others that go themselves, and
so it would stay. They go in favor of the picture, though: this leads from the copy to the picture. Thumbnails decide whether the two are
the same picture, as they do for all candidates. If they are, other images stay for some, and are compared in another round. As many pairs
are compared in a round as are known, at most.

Axes: N images, P pairs, R images of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.corpus.curation.alike import Pairs, compare, same_picture
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.cells import held
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.library import Library
from tips_bench.npz import map_npz, save_npz

LISTED = "listed.npz"
LEAST = -1  # pixels of an image that no other goes for
PART = 1 << 15  # pairs of a piece: 230 MB of thumbnails


def list_pairs(library: Library, pairs: Pairs, lost_N: np.ndarray, before: Sequence[Path], file: Path) -> None:
    """Write which images of the library are compared in a round, each pair once, none of those that stand in lists of rounds before.

    pairs: all that are known. lost_N: images that go because they lose their web captions. The choice asks which images stay with them and
    without them, so both are asked here; in the second case they lead from one image to another as all do that go, but none goes for them.
    """
    pixels_N, images = library.pixels(), len(library)
    numbers_P = _apart(pairs, pixels_N)
    if lost_N.any():
        numbers_P = np.union1d(numbers_P, _apart(pairs, np.where(lost_N, LEAST, pixels_N)))
    for one in before:
        numbers_P = np.setdiff1d(numbers_P, listed_pairs(one) @ [images, 1], assume_unique=True)
    save_npz(file, rows_P2=np.stack(np.divmod(numbers_P, max(1, images)), 1))


def _apart(pairs: Pairs, pixels_N: np.ndarray) -> np.ndarray:
    """[P] the two images that stay for those of a pair, where they are two, each once: as the number lower row * N + higher row, ascending.

    pixels_N: those of LEAST are not among them.
    """
    stays_N = stands_for(pairs, pixels_N)
    lower_P, higher_P = np.sort(stays_N[np.stack([pairs.rows_P, pairs.others_P])], axis=0)
    apart_P = (lower_P != higher_P) & (pixels_N[lower_P] > LEAST) & (pixels_N[higher_P] > LEAST)
    return np.unique((lower_P * len(stays_N) + higher_P)[apart_P])


def listed_pairs(file: Path) -> np.ndarray:
    """[P,2] rows, as `list_pairs` wrote them, on the disk still. Errors: a file that is missing or broken."""
    return map_npz(file, "list of pairs", ["rows_P2"])["rows_P2"]


def find_pairs_again(folder: str, listed: str, first: int, card: dict[str, Any], done: str) -> None:
    """Compare PART pairs of a list, from number `first` on, and write those that are the same picture. folder: of the library."""
    settings, rows_P2 = DuplicateCard(**card), listed_pairs(Path(listed))[first : first + PART]
    rows_R, places_P2 = np.unique(rows_P2, return_inverse=True)
    images = held(Library.load(Path(folder)), rows_R)
    agreement_P, bits_P = compare(images, images, places_P2.reshape(-1, 2), settings)
    found = Pairs(rows_P2[:, 0], rows_P2[:, 1], agreement_P, bits_P)
    save_npz(Path(done), **vars(found.at(same_picture(agreement_P, bits_P, settings))))
