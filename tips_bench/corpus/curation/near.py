"""Retrieval: the images of a corpus that are nearest to those of named data sets.

Axes: N images of the corpus, Q queries, R nearest of a query, D features.
"""

from __future__ import annotations

import numpy as np

from tips_bench.corpus.curation.candidates import NOTHING, Best, Index
from tips_bench.corpus.curation.library import Library


def nearest_rank(queries: Library, library: Library, kept_N: np.ndarray, per_query: int) -> np.ndarray:
    """[N] the best rank of each image among the nearest of a query, 0 = the nearest; per_query = it is not among those of any.

    kept_N: the images that may be found.
    """
    rank_N = np.full(len(library), per_query)
    for number in range(len(queries.files)):
        queries_QD = queries.array(number, "embeddings_ND").astype(np.float32)
        rows_QR = _nearest(queries_QD, library, kept_N, per_query)
        for rank in range(per_query - 1, -1, -1):
            found = rows_QR[rows_QR[:, rank] != NOTHING, rank]
            rank_N[found] = np.minimum(rank_N[found], rank)
    return rank_N


def _nearest(queries_QD: np.ndarray, library: Library, kept_N: np.ndarray, count: int) -> np.ndarray:
    near = Best(len(queries_QD), count)
    for number in range(len(library.files)):
        rows_m = library.rows(number).start + np.flatnonzero(kept_N[library.rows(number)])
        if len(rows_m) and len(queries_QD):
            index = Index(library.array(number, "embeddings_ND")[rows_m - library.rows(number).start])
            values_QR, places_QR = index.nearest(queries_QD, count)
            near.take(slice(None), values_QR, rows_m[places_QR])
    return near.rows_NR
