"""Recognition of instances among distractors: GAP, GAP without distractors, and accuracy, in percent.

All queries are put in the order of the confidence of their prediction. GAP is the sum of the precision at each right one over the number
of queries that show a known thing; a distractor, which shows none, is never right and lowers the precision of what comes after it. GAP- and
accuracy leave distractors out (nikosips/met dea402c, code/utils/utils.py:9-65). Of equally confident predictions the wrong ones come first;
the source leaves their order to a sort that is not stable.

A query has the name of its nearest image. How sure that is depends on its other neighbors: each exhibit among them weighs exp(t s), s being
the greatest cosine with it, 0 at least, and each other exhibit of the database weighs 1 (code/classifiers/knn_classifier.py:31-63).

The precision at a query depends on all others, so it is computed once, for the whole set, and kept with the query. An interval resamples
queries with the precision that they have there.

Axes: Q queries, k neighbors; the axis of 4 is precision if right, the same without distractors, right, shows a known thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

METRICS = ("GAP", "GAP-", "accuracy")


def precisions(confidence_Q: np.ndarray, right_Q: np.ndarray) -> np.ndarray:
    """Precision of the ranking at each right query, 0 at others, shape Q."""
    order_Q = np.lexsort((right_Q, -confidence_Q))
    found_Q = np.zeros(len(order_Q))
    found_Q[order_Q] = np.cumsum(right_Q[order_Q]) / np.arange(1, len(order_Q) + 1) * right_Q[order_Q]
    return found_Q


def surety(near_Qk: np.ndarray, labels_Qk: np.ndarray, exhibits: int, temperature: float) -> np.ndarray:
    """Minus the odds against the name of each query, float64, shape Q: the confidence is 1 / (1 + the odds), which rounds to 1 early.

    near_Qk: cosines, descending. labels_Qk: exhibits of the neighbors. exhibits: of the whole database.
    """
    near_Qk = np.maximum(near_Qk, 0)
    first_Qk = np.ones(labels_Qk.shape, dtype=bool)
    for place in range(1, labels_Qk.shape[1]):
        first_Qk[:, place] = (labels_Qk[:, :place] != labels_Qk[:, place : place + 1]).all(1)
    against_Qk = first_Qk * np.exp(temperature * (near_Qk - near_Qk[:, :1]))
    others_Q = (exhibits - first_Qk.sum(1)) * np.exp(-temperature * near_Qk[:, 0])
    return -(against_Qk[:, 1:].sum(1) + others_Q)


def counts_of(confidence_Q: np.ndarray, right_Q: np.ndarray, known_Q: np.ndarray) -> np.ndarray:
    """counts_Q4, float64, of all queries of a set. right_Q, known_Q: bool; a query that is right is known."""
    counts_Q4 = np.stack([precisions(confidence_Q, right_Q), np.zeros(len(right_Q)), right_Q, known_Q], 1).astype(np.float64)
    counts_Q4[known_Q, 1] = precisions(confidence_Q[known_Q], right_Q[known_Q])
    return counts_Q4


class RecognitionCounts(SampleCounts):
    """The counts_4 of every query, which belong to the whole set."""

    dtype: ClassVar[type] = np.float64
    specs: ClassVar[dict[str, MetricSpec]] = dict.fromkeys(METRICS, PERCENT)
    item = "queries"

    @staticmethod
    def summary(counts_x4: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics in percent, shape ..., for summed counts of shape ...4; NaN without a query that shows a known thing."""
        counts_x4 = np.asarray(counts_x4, dtype=np.float64)
        return {name: 100 * ratio(counts_x4[..., column], counts_x4[..., 3]) for column, name in enumerate(METRICS)}

    @classmethod
    def for_classes(cls, classes: Sequence[str]) -> RecognitionCounts:
        """The same for every set."""
        return cls()

    def __init__(self) -> None:
        super().__init__((4,))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        precision, alone, right, known = counts
        if right not in (0, 1) or known not in (0, 1) or not 0 <= precision <= alone <= right <= known or (precision > 0) != (right > 0):
            raise UserError("the counts of a query contradict each other", where=where, fix="Run the task again.")
