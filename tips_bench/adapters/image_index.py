"""An index of whole images as what is fitted: the training split, encoded once, in which queries look for their like.

Axes: N index images, Q queries, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images, follow, point_to
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit


@dataclass(frozen=True)
class Index:
    """Features of the index images, as stored, in the order of the split's indices."""

    features_NF: np.ndarray

    def save(self, path: Path) -> None:
        """Write where they are, as .npz, atomically."""
        save_npz(path, **point_to(self.features_NF, path))

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what `save` wrote. Errors: a broken file, features that are not there any more."""
        return read_npz(path, "index", lambda data: cls(follow(data, path)))


class IndexProbe:
    """The index as a fit on the training split: its images are encoded."""

    reads_train = True
    load = staticmethod(Index.load)

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Encode the index."""
        store = encode_images(context.extractor, train, embedding(context), context.scratch, "index-whole")
        features_NF = store.arrays["features"]
        store.close()  # the file stays for the head
        return Fit(Index(features_NF), {"images": len(train)})


def embedding(context: RunContext) -> ImageEmbedding:
    """The global token of an image, the mean over the protocol's inference.scales."""
    return ImageEmbedding.tokens(context.extractor, scales=context.protocol.inference.scales)


def own_rows(queries: Split, index: Split) -> np.ndarray:
    """itself_Q: the row of the index that is a query's own image, by its id; -1 = none."""
    row = {id: number for number, id in enumerate(index.ids)}
    return np.array([row.get(id, -1) for id in queries.ids])


def query_features(context: RunContext, test: Split, head: Index, itself_Q: np.ndarray) -> np.ndarray:
    """Features of the queries [Q,F]; those that are in the index are taken from there. itself_Q: their rows, -1 = none."""
    features_QF = np.empty((len(test), head.features_NF.shape[1]), head.features_NF.dtype)
    known_Q = itself_Q >= 0
    features_QF[known_Q] = head.features_NF[itself_Q[known_Q]]
    others = test.part([test.indices[place] for place in np.flatnonzero(~known_Q)])
    if len(others):
        store = encode_images(context.extractor, others, embedding(context), context.scratch, "query-whole")
        features_QF[~known_Q] = store.arrays["features"]
        store.close()
    return features_QF
