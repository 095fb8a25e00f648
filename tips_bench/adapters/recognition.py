"""The task family `instance-recognition`: a photo is named by the nearest image of a database, and may show nothing that is in it.

The database is the training split, and is encoded once; its features may be whitened. The name is that of the nearest image, and how
sure it is depends on the next ones, too. Their number and the temperature may be a choice by GAP on the validation queries of the task.

Axes: Q queries, k neighbors, F features.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.image_index import Index, IndexProbe, own_rows, query_features
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import LabeledReader
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.search import Neighbors, Search
from tips_bench.metrics.recognition import RecognitionCounts, counts_of, surety
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.neighbors import SHOWN, neighbor_panel
from tips_bench.probes.base import Choice, Fit

Chosen = dict[str, float]


class RecognitionOptions(Strict):
    """whiten: dimensions of whitened features at most, null = as they are. neighbors, temperature: what is chosen from."""

    type: Literal["nearest-name"]
    whiten: Annotated[int, Field(gt=0)] | None = None
    neighbors: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] = [1]
    temperature: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)] = [1.0]

    def grid(self) -> list[Chosen]:
        """All pairs, the temperature changing fastest."""
        return [{"neighbors": k, "temperature": t} for k, t in product(self.neighbors, self.temperature)]


class RecognitionData(Strict):
    """Of a task. validation: the split of queries on which hyper-parameters are chosen."""

    validation: str | None = None


class RecognitionProbe(IndexProbe):
    """The database, and the choice of the pair of hyper-parameters where there are several."""

    def __init__(self, task: TaskCard, options: RecognitionOptions) -> None:
        super().__init__(options.whiten)
        self.task, self.grid = task, options.grid()
        self.validation = parse(RecognitionData, task.options, where=f"task {task.name}", prefix="options.").validation

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Encode the database; encode the validation queries and choose. Errors: a task without any."""
        fit = super().fit(context, train)
        if len(self.grid) == 1:
            return fit
        queries = self._validation_queries(train)
        found = neighbors(context, queries, train, fit.head, max(int(chosen["neighbors"]) for chosen in self.grid))
        scores: list[float | None] = [gap(queries, train, found, chosen) for chosen in self.grid]
        choice = Choice(self.grid, scores, int(np.argmax(np.array(scores, float))), len(queries), "GAP")
        return replace(fit, choice=choice, head=replace(fit.head, chosen=self.grid[choice.index]))

    def _validation_queries(self, train: Split) -> Split:
        data = self.task.data
        if self.validation is None:
            fix = "Name a split in options.validation of the task, or give one value each: --set probe.neighbors=[1] probe.temperature=[1]."
            raise UserError("the protocol chooses between hyper-parameters, and the task has no validation queries", fix=fix)
        data = data.model_copy(update={"splits": data.splits | {"test": self.validation}})
        return Split.open(data, Path(train.reader.root), "test", len(train) if len(train) < len(train.reader) else None)


class RecognitionAdapter:
    """Joins reader, search and counts for one protocol."""

    needs_text = False
    observed = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        options = parse(RecognitionOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")
        self.task, self.probe = task, RecognitionProbe(task, options)
        self.only = options.grid()[0]

    def open(self, root: Path, limit: int | None) -> Splits[LabeledReader]:
        """The database as the training split, the queries as the test split."""
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits[LabeledReader], head: Index, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every query of the test split, which need all of them."""
        test, database, chosen = splits.test, splits.needed(), head.chosen or self.only
        found = neighbors(context, test, database, head, int(chosen["neighbors"]))
        counts = RecognitionCounts()
        for index, counts_4 in zip(test.indices, recognized(test, database, found, chosen), strict=True):
            counts.update(test.reader.ids[index], test.reader.groups[index], counts_4)
        return Scores(counts, {"distractors": int((test.reader.labels_N[test.indices] < 0).sum())})

    def draw(self, context: RunContext, splits: Splits[LabeledReader], head: Index, indices: list[int]) -> list[Picture]:
        """For each query its nearest images."""
        test, database = splits.test, splits.needed()
        found = neighbors(context, test, database, head, SHOWN)
        labels_Qk, pictures = names(database, found), []
        for index in indices:
            place, label = test.indices.index(index), int(test.reader.labels_N[index])
            tiles = [
                (database.reader.load(database.indices[row]).image_HW3, f"{near:.3f} exhibit {name}", bool(name == label))
                for row, near, name in zip(found.rows_Qk[place], found.similarities_Qk[place], labels_Qk[place], strict=True)
            ]
            words = "distractor" if label < 0 else f"exhibit {label}"
            pictures.append(Picture(neighbor_panel(test.reader.load(index).image_HW3, words, tiles)))
        return pictures


def neighbors(context: RunContext, queries: Split[LabeledReader], database: Split[LabeledReader], head: Index, k: int) -> Neighbors:
    """The k nearest images of each query, or all where there are fewer."""
    features_QF = query_features(context, queries, head, own_rows(queries, database))
    return Search(head.features_NF, context.encoder.device).nearest(features_QF, k)


def names(database: Split[LabeledReader], found: Neighbors) -> np.ndarray:
    """The exhibit of each neighbor, shape Qk."""
    return database.reader.labels_N[database.indices][found.rows_Qk]


def recognized(queries: Split[LabeledReader], database: Split[LabeledReader], found: Neighbors, chosen: Chosen) -> np.ndarray:
    """counts_Q4 of all queries. found: as many neighbors as are chosen, or more."""
    k = int(chosen["neighbors"])
    labels_Qk, labels_Q = names(database, found)[:, :k], queries.reader.labels_N[queries.indices]
    exhibits = len(np.unique(database.reader.labels_N[database.indices]))
    sure_Q = surety(found.similarities_Qk[:, :k], labels_Qk, exhibits, chosen["temperature"])
    return counts_of(sure_Q, labels_Qk[:, 0] == labels_Q, labels_Q >= 0)


def gap(queries: Split[LabeledReader], database: Split[LabeledReader], found: Neighbors, chosen: Chosen) -> float:
    """GAP of the queries in percent. Errors: all of them are distractors."""
    counts_Q4 = recognized(queries, database, found, chosen)
    if not counts_Q4[:, 3].any():
        raise UserError("no validation query shows an exhibit", where=queries.reader.root, fix="Get the list again, or raise --limit.")
    return float(RecognitionCounts.summary(counts_Q4.sum(0))["GAP"])
