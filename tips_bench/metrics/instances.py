"""Retrieval of instances over several domains: R@1 and mMP@5 in percent, each the mean over domains.

UnED's metrics (Ypsilantis et al., Towards Universal Image Embeddings, ICCV 2023, section 3.3; compute_knn_metrics of their
universal_embedding/knn_utils.py): R@1 is the share of queries whose nearest index image is relevant; MP@5 of a query with n relevant
images in the index is the share of relevant ones among its min(n, 5) nearest, and mMP@5 its mean over queries. Their code rounds each
domain's score to three digits before it takes the mean over domains; here nothing is rounded.

A share of 1 to 5 images is a whole number of sixtieths, so that counts stay integers. Axes: G domains; the axis of 3 is right at first,
sixtieths of MP@5, queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

DEPTH = 5
SIXTIETHS = 60  # the least common multiple of 1 to 5


def count(relevant_k: np.ndarray, relevant_in_index: int, domain: int, domains: int) -> np.ndarray:
    """counts_G3 of one query, int64. relevant_k: whether each of its nearest images, at least 5 if there are so many, is relevant.

    A query without any relevant image in the index has 0 of 1.
    """
    depth = min(max(relevant_in_index, 1), DEPTH)
    counts_G3 = np.zeros((domains, 3), dtype=np.int64)
    counts_G3[domain] = relevant_k[:1].sum(), SIXTIETHS // depth * relevant_k[:depth].sum(), 1
    return counts_G3


def domain_scores(counts_xG3: np.ndarray) -> dict[str, np.ndarray]:
    """R@1 and mMP@5 of each domain in percent, shape ...G; NaN for a domain without queries."""
    counts_xG3 = np.asarray(counts_xG3, dtype=np.float64)
    right_xG, sixtieths_xG, queries_xG = np.moveaxis(counts_xG3, -1, 0)
    scored_xG = queries_xG > 0

    def percent(part_xG: np.ndarray) -> np.ndarray:
        return np.divide(100 * part_xG, queries_xG, out=np.full(queries_xG.shape, np.nan), where=scored_xG)

    return {"R@1": percent(right_xG), "mMP@5": percent(sixtieths_xG / SIXTIETHS)}


def summary(counts_xG3: np.ndarray) -> dict[str, np.ndarray]:
    """R@1 and mMP@5 in percent, shape ...: means over the domains that have queries; NaN where none has."""
    means = {}
    for name, values_xG in domain_scores(counts_xG3).items():
        scored_xG = ~np.isnan(values_xG)
        domains_x = scored_xG.sum(-1)
        total_x = np.where(scored_xG, values_xG, 0.0).sum(-1)
        means[name] = np.divide(total_x, domains_x, out=np.full(domains_x.shape, np.nan), where=domains_x > 0)
    return means


def _domain_score(name: str, counts_xG3: np.ndarray) -> np.ndarray:
    return domain_scores(counts_xG3)[name]


class InstanceCounts(SampleCounts):
    """The counts_G3 of every query, and the means over domains of their sums."""

    specs: ClassVar[dict[str, MetricSpec]] = {"R@1": PERCENT, "mMP@5": PERCENT}
    per_class_specs: ClassVar[dict[str, MetricSpec]] = {"domain R@1": PERCENT, "domain mMP@5": PERCENT}

    summary = staticmethod(summary)

    per_class: ClassVar[Mapping[str, Any]] = {name: (f"domain {name}", partial(_domain_score, name)) for name in ("R@1", "mMP@5")}
    item = "queries"

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> InstanceCounts:
        """Of a set with these domains."""
        return cls(len(classes))

    def __init__(self, domains: int) -> None:
        super().__init__((domains, 3))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        right_G, sixtieths_G, queries_G = counts.T
        if (right_G > queries_G).any() or (sixtieths_G > SIXTIETHS * queries_G).any() or queries_G.sum() != 1:
            raise UserError("the counts of a query contradict each other", where=where)

    def compute(self) -> dict[str, float | np.ndarray]:
        """The means over domains, and the values of each domain."""
        per_domain = domain_scores(self.total())
        return {**super().compute(), **{f"domain {name}": values_G for name, values_G in per_domain.items()}}
