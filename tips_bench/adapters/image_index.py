"""An index of whole images as what is fitted: the training split, encoded once, in which queries look for their like.

Axes: N index images, Q queries, F features, D of them after whitening.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images, follow, point_to
from tips_bench.features.whitening import Whitening
from tips_bench.files import digest
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit

AT_ONCE = 1 << 12  # features that are whitened together


@dataclass(frozen=True)
class Index:
    """Features of the index images, in the order of the split's indices: as stored, or whitened.

    whitening: what queries go through, too. chosen: hyper-parameters of the search, where there was a choice.
    """

    features_NF: np.ndarray
    whitening: Whitening | None = None
    chosen: dict[str, float] | None = None

    def save(self, path: Path) -> None:
        """Write where they are, as .npz, atomically."""
        more = {} if self.whitening is None else {"mean": self.whitening.mean_F, "matrix": self.whitening.matrix_FD}
        save_npz(path, **point_to(self.features_NF, path), chosen=json.dumps(self.chosen), **more)

    @classmethod
    def load(cls, path: Path) -> Index:
        """Read what `save` wrote. Errors: a broken file, features that are not there any more."""

        def read(data: Mapping[str, np.ndarray]) -> Index:
            whitening = Whitening(data["mean"], data["matrix"]) if "mean" in data else None
            return cls(follow(data, path), whitening, json.loads(str(data["chosen"])))

        return read_npz(path, "index", read)


class IndexProbe:
    """The index as a fit on the training split: its images are encoded. whiten: to so many dimensions at most, None = as they are."""

    reads_train = True
    is_memory = True
    load = staticmethod(Index.load)

    def __init__(self, whiten: int | None = None) -> None:
        self.whiten = whiten

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Encode the index, and whiten it if it is to be."""
        store = encode_images(context.extractor, train, embedding(context), context.scratch, "index-whole")
        features_NF = store.arrays["features"]
        store.close()  # the file stays for the head
        if self.whiten is None:
            return Fit(Index(features_NF), {"images": len(train)})
        dimensions = self.whiten
        whitening = context.extractor.world.told(lambda: Whitening.learned(features_NF, dimensions))
        index = Index(_whitened(context, train, features_NF, whitening), whitening)
        return Fit(index, {"images": len(train), "dimensions": index.features_NF.shape[1]})


def _whitened(context: RunContext, train: Split, features_NF: np.ndarray, whitening: Whitening) -> np.ndarray:
    """The features of the index in a file of their own, float32."""
    kind: dict[str, Any] = {"features": ((whitening.matrix_FD.shape[1],), "float32")}
    store = context.scratch.open("index-whitened", [1] * len(train), kind, digest(*train.ids))
    missing = set(store.missing())
    blocks = [range(start, min(start + AT_ONCE, len(train))) for start in range(0, len(train), AT_ONCE)]
    for rows in context.extractor.world.share(blocks):
        if missing.intersection(rows):  # a block is made whole: what stands beside a row may move its last digit
            for row, features_D in zip(rows, whitening.apply(features_NF[rows.start : rows.stop]), strict=True):
                store.write(row, features=features_D[None])
    features_ND = store.join().arrays["features"]
    store.close()
    return features_ND


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
        encoded = store.arrays["features"]
        features_QF[~known_Q] = encoded if head.whitening is None else head.whitening.apply(encoded)
        store.close()
    return features_QF
