"""Which of many images may be the same picture as an image: the nearest by embedding, the nearest by perceptual hash, and the largest of
all that have a hash near enough. Without the last, of a picture with a thousand copies many would stay: each knows of a few others alone,
and hardly any of the largest, for which it goes.

All are found exactly, a block of images at a time, so the result depends on neither the size of blocks nor who computes it, but for the
rounding of products in float32: a candidate more or less, which the thumbnails then judge. The work grows with the images of both.

Axes: N queries, M images of a block, R candidates of a query, D features, 4 hashes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.looks import hash_distances

BLOCK = 1024  # queries at once: 32 MiB of bits against a file of 4,096 images
NOTHING = -1
By = Literal["embedding", "hash"]
WAYS: dict[By, Callable[[DuplicateCard], dict[str, int]]] = {
    "embedding": lambda card: {"embedding": card.neighbors},
    "hash": lambda card: {"hash": card.neighbors, "largest": card.largest},
}
"""What is found by each, and how many of it."""


@dataclass(frozen=True)
class Block:
    """Images that are looked through at once. start: row of the first. pixels_M: height times width."""

    start: int
    embeddings_MD: np.ndarray
    hashes_M4: np.ndarray
    pixels_M: np.ndarray


class Images(Protocol):
    """Images that are looked through: the files of a library, or the members of a cell."""

    def blocks(self) -> Iterator[Block]:
        """Each block, in the order of the rows."""


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
    counts = {name: count for way in by for name, count in WAYS[way](card).items()}
    found = {name: Best(len(embeddings_ND), count) for name, count in counts.items()}
    for block in images.blocks():
        index = Index(block.embeddings_MD) if "embedding" in by else None
        for first in range(0, len(embeddings_ND) if len(block.hashes_M4) else 0, BLOCK):
            part = slice(first, first + BLOCK)
            ranked = {} if index is None else {"embedding": index.nearest(embeddings_ND[part].astype(np.float32), card.neighbors + 1)}
            if "hash" in by:
                ranked |= _alike(hashes_N4[part], block, card)
            for name, (values_nR, places_nR) in ranked.items():
                if own is not None:
                    itself = np.arange(own.start, own.stop)[part] - block.start
                    values_nR = np.where(places_nR == itself[:, None], -np.inf, values_nR)
                found[name].take(part, values_nR, places_nR + block.start)
    return np.concatenate([best.rows_NR for best in found.values()], 1)


class Best:
    """Those with the greatest values so far of each query; of equal ones the lower row."""

    def __init__(self, queries: int, count: int) -> None:
        self.values_NR = np.full((queries, count), -np.inf)
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


Ranked = tuple[np.ndarray, np.ndarray]
"""values_nR, -inf where there is nothing, and places_nR in a block: one more than wanted, for one may be the query itself."""


def _alike(hashes_n4: np.ndarray, block: Block, card: DuplicateCard) -> dict[str, Ranked]:
    """Of the images whose hashes differ within the card's bound, the nearest, by minus these bits, and the largest, by their pixels."""
    differ_nM = hash_distances(hashes_n4, block.hashes_M4)
    found = {"hash": _nearest(differ_nM, card)}
    return found | {"largest": _largest(differ_nM, card, block.pixels_M)} if card.largest else found


def _nearest(differ_nM: np.ndarray, card: DuplicateCard) -> Ranked:
    queries_P, places_P = (differ_nM <= card.bits).nonzero()
    order = np.lexsort((places_P, differ_nM[queries_P, places_P], queries_P))
    queries_P, places_P = queries_P[order], places_P[order]
    rank_P = np.arange(len(order)) - np.searchsorted(queries_P, queries_P)
    values_nR = np.full((len(differ_nM), card.neighbors + 1), -np.inf)
    places_nR = np.zeros(values_nR.shape, np.int64)
    kept_P = rank_P <= card.neighbors
    queries_P, places_P, rank_P = queries_P[kept_P], places_P[kept_P], rank_P[kept_P]
    values_nR[queries_P, rank_P], places_nR[queries_P, rank_P] = -differ_nM[queries_P, places_P].astype(np.float64), places_P
    return values_nR, places_nR


def _largest(differ_nM: np.ndarray, card: DuplicateCard, pixels_M: np.ndarray) -> Ranked:
    order_M = np.argsort(-pixels_M, kind="stable")
    inside_nM, rows_n = (differ_nM <= card.bits)[:, order_M], np.arange(len(differ_nM))
    values_nR, places_nR = np.full((len(differ_nM), card.largest + 1), -np.inf), np.zeros((len(differ_nM), card.largest + 1), np.int64)
    for rank in range(card.largest + 1):
        first_n = inside_nM.argmax(1)
        places_nR[:, rank] = order_M[first_n]
        values_nR[:, rank] = np.where(inside_nM[rows_n, first_n], pixels_M[order_M[first_n]], -np.inf)
        inside_nM[rows_n, first_n] = False
    return values_nR, places_nR


def _least(values_nM: np.ndarray, count: int) -> np.ndarray:
    """[n,R] places of the least values, the least first."""
    places_nR = np.argpartition(values_nM, count - 1, axis=1)[:, :count]
    return np.take_along_axis(places_nR, np.argsort(np.take_along_axis(values_nM, places_nR, 1), axis=1), 1)


@cache
def _faiss() -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None
