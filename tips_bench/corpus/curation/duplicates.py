"""Groups of images that are the same picture, of which one stays: the largest, of equal ones the first.

Axes: N images, P pairs.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tips_bench.corpus.curation.alike import Pairs


def stands_for(pairs: Pairs, pixels_N: np.ndarray) -> np.ndarray:
    """[N] the row of the image that stays in place of each: its own, unless it is in a group whose largest is another.

    Images are in a group when pairs lead from one to the other. pixels_N: height times width of each.
    """
    stays_N = np.arange(len(pixels_N))
    rows = np.unique(np.concatenate([pairs.rows_P, pairs.others_P]))
    if not len(rows):
        return stays_N
    first_P, second_P = np.searchsorted(rows, pairs.rows_P), np.searchsorted(rows, pairs.others_P)
    links = coo_array((np.ones(len(first_P), bool), (first_P, second_P)), shape=(len(rows), len(rows)))
    groups = connected_components(links, directed=False)[1]
    order = np.lexsort((rows, -pixels_N[rows], groups))
    _, begins = np.unique(groups[order], return_index=True)
    stays_N[rows] = rows[order][begins][groups]
    return stays_N
