"""Which of many images may be the same picture as an image: the nearest by embedding, and the nearest by perceptual hash.

Both are found exactly, a block of images at a time, so the result depends on neither the size of blocks nor who computes it, but for the
rounding of products in float32: a candidate more or less, which the thumbnails then judge. The work grows with the images of both.

Axes: N queries, M images of a block, R candidates of a query, D features, 4 hashes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.looks import hash_distances

BLOCK = 1024  # queries at once: 32 MiB of bits against a file of 4,096 images
NOTHING = -1
By = Literal["embedding", "hash"]


class Images(Protocol):
    """Images that are looked through: the files of a library, or the members of a cell."""

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(row of its first image, embeddings_MD, hashes_M4) of each block, in the order of the rows."""


def candidates(
    embeddings_ND: np.ndarray,
    hashes_N4: np.ndarray,
    images: Images,
    card: DuplicateCard,
    own: slice | None,
    by: Sequence[By] = ("embedding", "hash"),
) -> np.ndarray:
    """[N,R] rows of the images, NOTHING where there are fewer. own: the rows of the queries themselves, if they are among them.

    by: what they are found by; of what is not named, embeddings may have no features.
    """
    found = {name: Nearest(len(embeddings_ND), card.neighbors) for name in by}
    for start, others_MD, others_M4 in images.blocks():
        index = Index(others_MD) if "embedding" in by else None
        for first in range(0, len(embeddings_ND) if len(others_M4) else 0, BLOCK):
            part = slice(first, first + BLOCK)
            for name, nearest in found.items():
                if name == "embedding":
                    assert index is not None
                    values_nR, places_nR = index.nearest(embeddings_ND[part].astype(np.float32), card.neighbors + 1)
                else:
                    values_nR, places_nR = _alike(hashes_N4[part], others_M4, card)
                if own is not None:
                    itself = np.arange(own.start, own.stop)[part] - start
                    values_nR = np.where(places_nR == itself[:, None], -np.inf, values_nR)
                nearest.take(part, values_nR, places_nR + start)
    return np.concatenate([nearest.rows_NR for nearest in found.values()], 1)


class Nearest:
    """The nearest so far of each query; the greater a value, the nearer; of equal ones the lower row."""

    def __init__(self, queries: int, count: int) -> None:
        self.values_NR = np.full((queries, count), -np.inf, np.float32)
        self.rows_NR = np.full((queries, count), NOTHING, np.int64)

    def take(self, part: slice, values_nR: np.ndarray, rows_nR: np.ndarray) -> None:
        """Values of some queries, and the rows they belong to; -inf is nothing."""
        values = np.concatenate([self.values_NR[part], values_nR], 1)
        rows = np.concatenate([self.rows_NR[part], np.where(np.isneginf(values_nR), NOTHING, rows_nR)], 1)
        order = np.lexsort((rows, -values))[:, : self.values_NR.shape[1]]
        self.values_NR[part], self.rows_NR[part] = np.take_along_axis(values, order, 1), np.take_along_axis(rows, order, 1)


class Index:
    """Embeddings of a block, to be searched many times: all of them are compared, by faiss where it is installed."""

    def __init__(self, embeddings_MD: np.ndarray) -> None:
        self._embeddings_MD = np.ascontiguousarray(embeddings_MD, np.float32)
        self._flat = None
        if faiss := _faiss():
            self._flat = faiss.IndexFlatIP(self._embeddings_MD.shape[1])
            self._flat.add(self._embeddings_MD)

    def nearest(self, queries_nD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The greatest cosines of each query, at most `count`, and their places in the block. queries_nD: float32."""
        count = min(count, len(self._embeddings_MD))
        if self._flat is not None:
            values_nR, places_nR = self._flat.search(np.ascontiguousarray(queries_nD), count)
            return values_nR, places_nR
        near_nM = queries_nD @ self._embeddings_MD.T
        places_nR = _least(-near_nM, count)
        return np.take_along_axis(near_nM, places_nR, 1), places_nR


def search_library() -> str:
    """What computes the products: those of the two may differ in their last digits."""
    return "faiss" if _faiss() else "numpy"


def _alike(hashes_n4: np.ndarray, others_M4: np.ndarray, card: DuplicateCard) -> tuple[np.ndarray, np.ndarray]:
    """Minus the bits by which hashes differ, -inf beyond the card's bound, and their places. One more than wanted: it may be the query."""
    differ_nM = hash_distances(hashes_n4, others_M4)
    queries_P, places_P = (differ_nM <= card.bits).nonzero()
    order = np.lexsort((places_P, differ_nM[queries_P, places_P], queries_P))
    queries_P, places_P = queries_P[order], places_P[order]
    rank_P = np.arange(len(order)) - np.searchsorted(queries_P, queries_P)
    values_nR = np.full((len(hashes_n4), card.neighbors + 1), -np.inf, np.float32)
    places_nR = np.zeros(values_nR.shape, np.int64)
    kept_P = rank_P <= card.neighbors
    queries_P, places_P, rank_P = queries_P[kept_P], places_P[kept_P], rank_P[kept_P]
    values_nR[queries_P, rank_P], places_nR[queries_P, rank_P] = -differ_nM[queries_P, places_P].astype(np.float32), places_P
    return values_nR, places_nR


def _least(values_nM: np.ndarray, count: int) -> np.ndarray:
    """[n,R] places of the least values, the least first."""
    places_nR = np.argpartition(values_nM, count - 1, axis=1)[:, :count]
    return np.take_along_axis(places_nR, np.argsort(np.take_along_axis(values_nM, places_nR, 1), axis=1), 1)


@cache
def _faiss() -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None
