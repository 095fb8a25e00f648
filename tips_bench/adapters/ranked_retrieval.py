"""The task families `landmark-retrieval` and `ranked-retrieval`: a query puts the whole database in the order of likeness.

The database is the training split: it is encoded once, and what is in it is not encoded again as a query. Likeness is the cosine of global
tokens, in float64. What is right, and what is left out of the ranking, the reader says; an image of the database that the evaluation does
not use, because of a limit, is as if it were not in the lists.

Axes: N images of the database, Q queries, F features, P right images, J images left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.image_index import Index, IndexProbe, own_rows, query_features
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import CroppableReader, RankedReader
from tips_bench.data.split import Splits
from tips_bench.features.context import RunContext
from tips_bench.features.search import Search
from tips_bench.metrics.landmarks import LandmarkCounts, RankedCounts, direction_counts, setting_counts
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.neighbors import SHOWN, neighbor_panel

NOTES = ("queries without a right image",)
MARKS: dict[str, bool | None] = {"right": True, "easy": True, "hard": True, "junk": None}


class RankedOptions(Strict):
    """depth: how many images of the ranking count; null = all."""

    type: Literal["ranking"]
    depth: int | None = None


class LandmarkOptions(Strict):
    """queries: "box", cut to the box of the landmark, or "whole"."""

    type: Literal["ranking"]
    queries: Literal["box", "whole"]


class RankedAdapter:
    """Joins reader, ranking and counts for one protocol. A family sets `counts` and gives `count`."""

    needs_text = False
    observed = False
    counts: ClassVar[type[SampleCounts]]

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.probe = task, IndexProbe()
        self.read_options(protocol)

    def read_options(self, protocol: ProtocolCard) -> None:
        """Check the probe of a protocol. Errors: an option that does not exist."""
        raise NotImplementedError

    def count(self, near_N: np.ndarray, rows: dict[str, np.ndarray], reader: RankedReader, index: int) -> np.ndarray:
        """The counts of one query. near_N: similarities. rows: of the database's images, by what they are to it."""
        raise NotImplementedError

    def open(self, root: Path, limit: int | None) -> Splits[RankedReader]:
        """The database as the training split, the queries as the test split."""
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits[RankedReader], head: Index, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every query of the test split."""
        test, database = splits.test, splits.needed()
        place_of = {index: place for place, index in enumerate(test.indices)}
        row_of = {id: row for row, id in enumerate(database.ids)}
        features_QF = query_features(context, test, head, own_rows(test, database))
        part_N = database.reader.part_N[database.indices]
        search = Search(head.features_NF, context.encoder.device)

        def outcomes(indices: list[int]) -> Iterator[Scored]:
            mine = context.extractor.world.share(indices)
            near = search.similarities(features_QF[[place_of[index] for index in mine]])
            for index, (_, near_N) in zip(mine, near, strict=True):
                rows = _rows(test.reader, index, row_of)
                near_N = np.where(part_N == test.reader.part_N[index], near_N, -np.inf)
                right = sum(len(rows[kind]) for kind in rows if MARKS[kind])
                yield Scored(index, None, self.count(near_N, rows, test.reader, index), notes=(int(not right),))

        return score_samples(context, test, self.counts.for_classes(test.reader.classes), beside, outcomes, NOTES)

    def draw(self, context: RunContext, splits: Splits[RankedReader], head: Index, indices: list[int]) -> list[Picture]:
        """For each query the first images of their ranking: right ones in green, those left out in yellow."""
        database, test = splits.needed(), splits.test
        features_QF = query_features(context, test, head, own_rows(test, database))  # of all, which scoring has made
        row_of = {id: row for row, id in enumerate(database.ids)}
        part_N, pictures = database.reader.part_N[database.indices], []
        chosen = [test.indices.index(index) for index in indices]
        for place, (_, near_N) in zip(
            chosen, Search(head.features_NF, context.encoder.device).similarities(features_QF[chosen]), strict=True
        ):
            index = test.indices[place]
            kind_of = {row: kind for kind, rows in _rows(test.reader, index, row_of).items() for row in rows.tolist()}
            searched_M = np.flatnonzero(part_N == test.reader.part_N[index])
            tiles = []
            for row in searched_M[np.argsort(-near_N[searched_M], kind="stable")[:SHOWN]].tolist():
                other, kind = database.reader.load(database.indices[row]), kind_of.get(row, "wrong")
                tiles.append((other.image_HW3, f"{near_N[row]:.3f} {kind}", MARKS.get(kind, False)))
            pictures.append(Picture(neighbor_panel(test.reader.load(index).image_HW3, test.reader.ids[index], tiles)))
        return pictures


class LandmarkAdapter(RankedAdapter):
    """Landmarks in three settings."""

    counts = LandmarkCounts

    def read_options(self, protocol: ProtocolCard) -> None:
        """Whether queries are cut."""
        self.options = parse(LandmarkOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")

    def open(self, root: Path, limit: int | None) -> Splits[RankedReader]:
        """The database, and the queries, cut to their boxes where the protocol says so."""
        splits = super().open(root, limit)
        if self.options.queries == "whole" or not isinstance(splits.test.reader, CroppableReader):
            return splits
        return replace(splits, test=replace(splits.test, reader=splits.test.reader.cropped()))

    def count(self, near_N: np.ndarray, rows: dict[str, np.ndarray], reader: RankedReader, index: int) -> np.ndarray:
        """counts_S5."""
        return setting_counts(near_N, rows["easy"], rows["hard"], rows["junk"])


class DirectionAdapter(RankedAdapter):
    """Places in one or several directions of search."""

    counts = RankedCounts

    def read_options(self, protocol: ProtocolCard) -> None:
        """How deep the ranking counts."""
        self.options = parse(RankedOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")

    def count(self, near_N: np.ndarray, rows: dict[str, np.ndarray], reader: RankedReader, index: int) -> np.ndarray:
        """counts_G4."""
        return direction_counts(near_N, rows["right"], self.options.depth, int(reader.part_N[index]), len(reader.classes))


def _rows(reader: RankedReader, index: int, row_of: dict[str, int]) -> dict[str, np.ndarray]:
    """Rows of the database by what they are to a query."""
    return {kind: np.array([row_of[id] for id in ids if id in row_of], np.int64) for kind, ids in reader.answers(index).items()}
