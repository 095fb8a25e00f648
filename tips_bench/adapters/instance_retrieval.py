"""The task family `instance-retrieval`: queries of several domains look for images of the same thing in an index.

The index is the training split: it is encoded once, and what is in it is not encoded again as a query. Under "merged", UnED's own protocol,
every query is compared with the images of all domains; under "separate" with those of its own. An image is relevant if it is of the query's
domain and has a label in common with it; the query's own image is left out by its id, not by its rank. Of equally near images an
irrelevant one comes first.

Axes: N index images, Q queries, F features, L labels of an image, k neighbours, G domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.image_index import Index, IndexProbe, own_rows, query_features
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import InstanceReader
from tips_bench.data.split import Splits
from tips_bench.data.uned import NONE
from tips_bench.features.context import RunContext
from tips_bench.features.search import Neighbors, Search
from tips_bench.metrics.instances import DEPTH, InstanceCounts, count
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.neighbors import SHOWN, neighbor_panel


class InstanceOptions(Strict):
    """index: "merged", all domains are one index, or "separate"."""

    type: Literal["nearest"]
    index: Literal["merged", "separate"]


class InstanceAdapter:
    """Joins reader, search and counts for one protocol."""

    needs_text = False
    observed = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.options = parse(InstanceOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")
        self.probe = IndexProbe()

    def open(self, root: Path, limit: int | None) -> Splits[InstanceReader]:
        """The index as the training split, the queries as the test split."""
        return Splits.open(self.task.data, root, limit, train=True)

    def score(self, context: RunContext, splits: Splits[InstanceReader], head: Index, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every query of the test split."""
        test, pairs = splits.test, _Pairs.of(splits)
        reader, domains = test.reader, len(test.reader.classes)
        found = self._search(query_features(context, test, head, pairs.itself_Q), context, head, pairs)
        relevant_Qk = pairs.relevant(np.arange(len(test))[:, None], found.rows_Qk)
        in_index_Q, result = pairs.relevant_in_index(), InstanceCounts(domains)
        for place, index in enumerate(test.indices):
            counts_G3 = count(relevant_Qk[place], int(in_index_Q[place]), int(reader.domain_N[index]), domains)
            result.update(reader.ids[index], reader.groups[index], counts_G3)
        return Scores(result, {"queries without a relevant image": int((in_index_Q == 0).sum())})

    def _search(self, features_QF: np.ndarray, context: RunContext, head: Index, pairs: _Pairs) -> Neighbors:
        """The DEPTH nearest images of every query; rows are -1 where a query has fewer."""
        device = context.encoder.device
        if self.options.index == "merged":
            return Search(head.features_NF, device).nearest(features_QF, DEPTH, itself_Q=pairs.itself_Q, relevant=pairs.relevant)
        shape = len(features_QF), DEPTH
        found = Neighbors(np.full(shape, -np.inf), np.full(shape, -1))
        for domain in np.unique(pairs.domain_Q):
            own_Q, among_N = np.flatnonzero(pairs.domain_Q == domain), np.flatnonzero(pairs.domain_N == domain)
            if not len(among_N):
                continue
            own = _Pairs(pairs.itself_Q[own_Q], pairs.domain_Q[own_Q], pairs.domain_N, pairs.labels_QL[own_Q], pairs.labels_NL)
            near = Search(head.features_NF, device, among_N).nearest(
                features_QF[own_Q], DEPTH, itself_Q=own.itself_Q, relevant=own.relevant
            )
            found.rows_Qk[own_Q, : near.rows_Qk.shape[1]] = near.rows_Qk
            found.similarities_Qk[own_Q, : near.rows_Qk.shape[1]] = near.similarities_Qk
        return found

    def draw(self, context: RunContext, splits: Splits[InstanceReader], head: Index, indices: list[int]) -> list[Picture]:
        """For each query its nearest images."""
        train, test = splits.needed(), splits.test
        chosen = test.part(indices)
        features_QF = query_features(context, test, head, _Pairs.of(splits).itself_Q)  # of all, which scoring has made
        place_of = {query: place for place, query in enumerate(test.indices)}
        pairs, pictures = _Pairs.of(Splits(train, chosen)), []
        found = self._search(features_QF[[place_of[query] for query in chosen.indices]], context, head, pairs)
        relevant_Qk = pairs.relevant(np.arange(len(chosen))[:, None], found.rows_Qk)
        for place, query in enumerate(chosen.indices):
            sample, tiles = test.reader.load(query), []
            for row, near, right in zip(found.rows_Qk[place], found.similarities_Qk[place], relevant_Qk[place], strict=True):
                if row >= 0 and np.isfinite(near):
                    other = train.reader.load(train.indices[row])
                    tiles.append((other.image_HW3, f"{near:.3f} {other.domain} {other.labels[0]}", bool(right)))
            pictures.append(Picture(neighbor_panel(sample.image_HW3, f"{sample.domain} {sample.labels[0]}", tiles[:SHOWN])))
        return pictures


@dataclass(frozen=True)
class _Pairs:
    """What is relevant to what. itself_Q: the row of the index that is the query's own image, -1 = none."""

    itself_Q: np.ndarray
    domain_Q: np.ndarray
    domain_N: np.ndarray
    labels_QL: np.ndarray
    labels_NL: np.ndarray

    @classmethod
    def of(cls, splits: Splits[InstanceReader]) -> _Pairs:
        """Of the queries and the index images of an evaluation."""
        index, test = splits.needed(), splits.test
        itself_Q = own_rows(test, index)
        domains = (split.reader.domain_N[split.indices] for split in (test, index))
        labels = (split.reader.labels_NL[split.indices] for split in (test, index))
        return cls(itself_Q, *domains, *labels)

    def relevant(self, queries_x: np.ndarray, rows_x: np.ndarray) -> np.ndarray:
        """Whether rows of the index are relevant to queries, of any shapes that fit; row -1 never is."""
        queries_x, rows_x = np.broadcast_arrays(queries_x, rows_x)
        mine_xL1, theirs_x1L = self.labels_QL[queries_x][..., None], self.labels_NL[rows_x][..., None, :]
        common_x = ((mine_xL1 == theirs_x1L) & (mine_xL1 != NONE)).any((-2, -1))
        itself_x = self.itself_Q[queries_x] == rows_x
        return common_x & (self.domain_Q[queries_x] == self.domain_N[rows_x]) & (rows_x >= 0) & ~itself_x

    def relevant_in_index(self) -> np.ndarray:
        """How many index images are relevant to each query, its own left out."""
        rows_of: dict[tuple[int, int], set[int]] = {}
        for row, (domain, labels_L) in enumerate(zip(self.domain_N.tolist(), self.labels_NL.tolist(), strict=True)):
            for label in labels_L:
                rows_of.setdefault((domain, label), set()).add(row)
        found = []
        for itself, domain, labels_L in zip(self.itself_Q.tolist(), self.domain_Q.tolist(), self.labels_QL.tolist(), strict=True):
            rows = [rows_of.get((domain, label), set()) for label in labels_L if label != NONE]
            every: set[int] = rows[0] if len(rows) == 1 else set().union(*rows)
            found.append(len(every) - (itself in every))
        return np.array(found)
