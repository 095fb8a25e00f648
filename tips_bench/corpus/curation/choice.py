"""Which images of a corpus stay.

First what data sets forbid goes, then images without a web caption that agrees, duplicates, what is not near, and what is not drawn.

Axes: N images of the corpus, T their web captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tips_bench.corpus.curation.agreeing import WebCaptions
from tips_bench.corpus.curation.alike import NONE, Pairs
from tips_bench.corpus.curation.balance import draw
from tips_bench.corpus.curation.duplicates import stands_for
from tips_bench.corpus.curation.hierarchy import build
from tips_bench.corpus.curation.kmeans import Points
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.wish import Wish
from tips_bench.errors import UserError


@dataclass
class Choice:
    """kept_N: the images that stay. dropped: reason -> how many went. clusters: of each level of the tree, None without one.

    pairs: of images of the corpus; matches: of one of them and one of the data sets that it may not show. stays_N: see `stands_for`.
    captions: all web captions, None where they were not compared; agrees_T: those that stay where their image does.
    """

    kept_N: np.ndarray
    stays_N: np.ndarray
    pairs: Pairs = NONE
    matches: Pairs = NONE
    dropped: Counter[str] = field(default_factory=Counter)
    clusters: list[int] | None = None
    captions: WebCaptions | None = None
    agrees_T: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def taken_out(self) -> WebCaptions | None:
        """The web captions that images lose which stay; None where captions were not compared."""
        return None if self.captions is None else self.captions.at(~self.agrees_T & self.kept_N[self.captions.rows_T])

    def keep(self, kept_N: np.ndarray, reason: str) -> None:
        """Of those that stay, only these. Errors: none is left."""
        self.dropped[reason] += int((self.kept_N & ~kept_N).sum())
        self.kept_N &= kept_N
        if not self.kept_N.any():
            raise UserError(f"no image is left after this: {reason}", fix="Ask for less, or start from more images.")


def choose(
    wish: Wish,
    corpus: Library,
    sets: Library | None,
    rank: Callable[[np.ndarray], np.ndarray] | None,
    pairs: Pairs,
    matches: Pairs,
    captions: WebCaptions | None,
    work: Path,
) -> Choice:
    """What stays. sets: library of the data sets that it may not show. work: where the tree of clusters is kept. Errors: none is left.

    rank: [N] of the images that may be found -> [N] the rank of each among the nearest of a named data set, see `near.nearest_rank`.
    """
    pixels_N = corpus.pixels()
    choice = Choice(np.ones(len(corpus), bool), stands_for(pairs, pixels_N), pairs, matches)
    if sets is not None:
        _forbid(choice, sets)
    if captions is not None:
        _leave_out_wrong(wish, choice, captions, pixels_N)
    choice.keep(choice.stays_N == np.arange(len(corpus)), "the same picture as another image")
    rank_N = np.zeros(len(corpus), np.int64)
    if rank is not None:
        rank_N = rank(choice.kept_N)
        choice.keep(rank_N < wish.card.near.per_query, "not near the named data sets")
    _draw(wish, corpus, rank_N, choice, work)
    return choice


def _forbid(choice: Choice, sets: Library) -> None:
    """Drop the images that show one of a data set, and all that are the same picture as they are; the first set is the reason."""
    for source, files in sets.by_source().items():
        inside_P = (choice.matches.others_P >= sets.starts[files.start]) & (choice.matches.others_P < sets.starts[files.stop])
        forbidden = np.zeros(len(choice.kept_N), bool)
        forbidden[choice.stays_N[choice.matches.rows_P[inside_P]]] = True
        choice.keep(~forbidden[choice.stays_N], f"shows an image of {source}")


def _leave_out_wrong(wish: Wish, choice: Choice, captions: WebCaptions, pixels_N: np.ndarray) -> None:
    """Drop the images that had web captions and lose all. No other image goes in favor of such a one: a copy may have a better caption."""
    assert wish.agree is not None, "captions were compared"
    choice.captions, choice.agrees_T = captions, captions.best(wish.agree)
    lost_N = captions.lost(choice.agrees_T, len(choice.kept_N))
    choice.keep(~lost_N, "no web caption agrees with the image")
    choice.stays_N = stands_for(choice.pairs.at(~lost_N[choice.pairs.rows_P] & ~lost_N[choice.pairs.others_P]), pixels_N)


def _draw(wish: Wish, corpus: Library, rank_N: np.ndarray, choice: Choice, work: Path) -> None:
    rows, drawn_N = np.flatnonzero(choice.kept_N), np.zeros(len(corpus), bool)
    if wish.balance:
        kept_N = choice.kept_N.copy()
        points = Points(len(rows), corpus.dim, lambda: (block_nD for _, block_nD in corpus.embeddings(kept_N)))
        levels = build(points, wish.card.balance, wish.seed, work)
        choice.clusters = [len(level.centroids_KD) for level in levels]
        drawn_N[rows[draw(levels, wish.keep or len(rows) // 2 or 1, wish.seed)]] = True
    elif wish.keep is not None:
        random_N = np.random.default_rng([wish.seed, len(rows)]).permutation(len(rows))
        drawn_N[rows[np.lexsort((random_N, rank_N[rows]))[: wish.keep]]] = True
    else:
        return
    choice.keep(drawn_N, "not drawn")
