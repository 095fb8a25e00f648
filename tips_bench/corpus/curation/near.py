"""Retrieval: the images of a corpus that are nearest to those of named data sets.

Each part of the corpus is searched by itself, for all queries, and what was found in all parts is put together.

Axes: N images of the corpus, Q queries, R nearest of a query, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tips_bench.corpus.curation.candidates import NOTHING, Best, Index
from tips_bench.corpus.curation.library import Library
from tips_bench.npz import read_npz, save_npz


def find_near(folder: str, first: int, behind: int, queries: str, kept: str, count: int, done: str) -> None:
    """Find the `count` images that are nearest to each query, in the files first to behind (exclusive) of the library `folder`.

    queries: the folder of their library. kept: file with the images that may be found, kept_N.
    """
    library, asked = Library.load(Path(folder)), Library.load(Path(queries))
    kept_N = read_npz(Path(kept), "list of images", lambda data: data["kept_N"])
    queries_QD = np.concatenate([part_QD for _, part_QD in asked.embeddings()])
    near = Best(len(queries_QD), count)
    for number in range(first, behind):
        places_m = np.flatnonzero(kept_N[library.rows(number)])
        if len(places_m) and len(queries_QD):
            values_QR, places_QR = Index(library.array(number, "embeddings_ND")[places_m]).nearest(queries_QD, count)
            near.take(slice(None), values_QR, library.rows(number).start + places_m[places_QR])
    save_npz(Path(done), values_QR=near.values_NR, rows_QR=near.rows_NR)


def nearest_rank(found: Sequence[Path], images: int, per_query: int) -> np.ndarray:
    """[N] the best rank of each image among the nearest of a query, 0 = the nearest; per_query = it is not among those of any.

    found: the files of `find_near`, of all parts.
    """
    near = Best(read_npz(found[0], "list of the nearest images", lambda data: len(data["rows_QR"])), per_query)
    for file in found:
        near.take(slice(None), *read_npz(file, "list of the nearest images", lambda data: (data["values_QR"], data["rows_QR"])))
    rank_N = np.full(images, per_query)
    for rank in range(per_query - 1, -1, -1):
        rows = near.rows_NR[near.rows_NR[:, rank] != NOTHING, rank]
        rank_N[rows] = np.minimum(rank_N[rows], rank)
    return rank_N
