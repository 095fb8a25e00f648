"""Of images that are the same picture, which stay: the largest, of equal ones the first.

Axes: N images, P pairs.
"""

from __future__ import annotations

import numpy as np

from tips_bench.corpus.curation.alike import Pairs

LINKS = 1 << 20  # that are Python's numbers at once


def stands_for(pairs: Pairs, pixels_N: np.ndarray) -> np.ndarray:
    """[N] the row of the image that stays in place of each: its own, unless it is the same picture as a larger one that stays.

    From the largest image to the smallest, each stays unless it is paired with one that stays already; it goes in favor of the largest of
    these. Every image that goes is thus itself the same picture as the one that stays for it: chains of pairs would join almost all images
    that show little, such as plain walls, into one group. pixels_N: height times width of each.
    """
    stays_N = np.arange(len(pixels_N))
    rank_N = np.empty(len(pixels_N), np.int64)
    rank_N[np.lexsort((stays_N, -pixels_N))] = stays_N
    links_P2 = np.stack([pairs.rows_P, pairs.others_P], 1)
    swapped_P = rank_N[links_P2[:, 0]] > rank_N[links_P2[:, 1]]
    links_P2[swapped_P] = links_P2[swapped_P, ::-1]
    links_P2 = links_P2[np.lexsort(rank_N[links_P2].T)]
    for start in range(0, len(links_P2), LINKS):
        for larger, smaller in links_P2[start : start + LINKS].tolist():
            if stays_N[smaller] == smaller and stays_N[larger] == larger:
                stays_N[smaller] = larger
    return stays_N
