"""The task family `instance-recognition`: a photo is named by the nearest image of a database, and may show nothing that is in it.

The database is the training split, and is encoded once. The confidence of a name is the cosine with that image, 0 where it is negative.
With one neighbor the source's softmax over exhibits is greater where the cosine is, whatever its temperature, so none is chosen.

Axes: Q queries, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.image_index import Index, IndexProbe, own_rows, query_features
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import LabeledReader
from tips_bench.data.split import Splits
from tips_bench.features.context import RunContext
from tips_bench.features.search import Neighbors, Search
from tips_bench.metrics.recognition import RecognitionCounts, counts_of
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.neighbors import SHOWN, neighbor_panel


class RecognitionOptions(Strict):
    """The name is that of the nearest image."""

    type: Literal["nearest-name"]


class RecognitionAdapter:
    """Joins reader, search and counts for one protocol."""

    needs_text = False
    observed = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.probe = task, IndexProbe()
        parse(RecognitionOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")

    def open(self, root: Path, limit: int | None) -> Splits[LabeledReader]:
        """The database as the training split, the queries as the test split."""
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits[LabeledReader], head: Index, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every query of the test split, which need all of them."""
        test, found = splits.test, self._search(context, splits, head, 1)
        labels_Q = test.reader.labels_N[test.indices]
        right_Q = self._labels(splits, found)[:, 0] == labels_Q
        counts_Q4 = counts_of(np.maximum(found.similarities_Qk[:, 0], 0), right_Q, labels_Q >= 0)
        counts = RecognitionCounts()
        for index, counts_4 in zip(test.indices, counts_Q4, strict=True):
            counts.update(test.reader.ids[index], test.reader.groups[index], counts_4)
        return Scores(counts, {"distractors": int((labels_Q < 0).sum())})

    def _search(self, context: RunContext, splits: Splits[LabeledReader], head: Index, k: int) -> Neighbors:
        features_QF = query_features(context, splits.test, head, own_rows(splits.test, splits.needed()))
        return Search(head.features_NF, context.encoder.device).nearest(features_QF, k)

    def _labels(self, splits: Splits[LabeledReader], found: Neighbors) -> np.ndarray:
        """The exhibit of each neighbor, shape Qk."""
        database = splits.needed()
        return database.reader.labels_N[database.indices][found.rows_Qk]

    def draw(self, context: RunContext, splits: Splits[LabeledReader], head: Index, number: int) -> list[Picture]:
        """For `number` queries their nearest images."""
        test, database, found = splits.test, splits.needed(), self._search(context, splits, head, SHOWN)
        labels_Qk, pictures = self._labels(splits, found), []
        for index in test.pick(number):
            place, label = test.indices.index(index), int(test.reader.labels_N[index])
            tiles = [
                (database.reader.load(database.indices[row]).image_HW3, f"{near:.3f} exhibit {name}", bool(name == label))
                for row, near, name in zip(found.rows_Qk[place], found.similarities_Qk[place], labels_Qk[place], strict=True)
            ]
            words = "distractor" if label < 0 else f"exhibit {label}"
            pictures.append(Picture(neighbor_panel(test.reader.load(index).image_HW3, words, tiles)))
        return pictures
