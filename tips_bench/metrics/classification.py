"""Classification of whole images: top-1 and top-5 accuracy, in percent.

Where a protocol has several candidates (the neighbours of kNN, the heads of a sweep), all are counted: column 0 is the one that was
chosen without a look at the scored split, the others are all candidates, from which the habit of papers, the best on the scored split,
is computed under its own name.

Axes: N samples, S candidates, C classes; the axis of 3 is right at first, right among the first five, images.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec

TOP = (1, 5)


def ranks(scores_xC: np.ndarray, labels_x: np.ndarray) -> np.ndarray:
    """Rank of the true class from 0, shape x: how many classes come before it. Of equal scores the lower class comes first, as in argmax.

    A class whose score is minus infinity is not predicted at all, and scores with a NaN are right nowhere: rank C.
    """
    classes = scores_xC.shape[-1]
    true_x1 = np.take_along_axis(scores_xC, labels_x[..., None], -1)
    lower_xC = np.arange(classes) < labels_x[..., None]
    before_x = ((scores_xC > true_x1) | ((scores_xC == true_x1) & lower_xC)).sum(-1)
    return np.where(np.isneginf(true_x1[..., 0]) | np.isnan(scores_xC).any(-1), classes, before_x)


def count(ranks_S: np.ndarray, choice: int | None) -> np.ndarray:
    """counts_3S of one sample, int64: the chosen candidate in front of all; of one candidate, where nothing is chosen, that one alone."""
    if choice is not None:
        ranks_S = np.concatenate([ranks_S[choice : choice + 1], ranks_S])
    return np.stack([*(ranks_S < top for top in TOP), np.ones_like(ranks_S, dtype=bool)]).astype(np.int64)


def summary(counts_x3S: np.ndarray) -> dict[str, np.ndarray]:
    """top1 and top5 of the chosen candidate and, where there are candidates, top1-best-on-test, in percent; NaN without images."""
    counts_x3S = np.asarray(counts_x3S, dtype=np.float64)
    images_xS = counts_x3S[..., 2, :]
    accuracy_x2S = np.divide(
        100 * counts_x3S[..., :2, :],
        images_xS[..., None, :],
        out=np.full(counts_x3S[..., :2, :].shape, np.nan),
        where=images_xS[..., None, :] > 0,
    )
    found = {"top1": accuracy_x2S[..., 0, 0], "top5": accuracy_x2S[..., 1, 0]}
    if counts_x3S.shape[-1] > 1:
        found["top1-best-on-test"] = accuracy_x2S[..., 0, 1:].max(-1)
    return found


class ClassificationCounts(SampleCounts):
    """The counts_3S of every image, of one head."""

    specs: ClassVar[dict[str, MetricSpec]] = {"top1": PERCENT, "top5": PERCENT}

    summary = staticmethod(summary)

    @classmethod
    def of_record(cls, record: Any) -> ClassificationCounts:
        """Of as many heads as the record scored beside the chosen one."""
        return counts_of(len(record.selection.grid) if record.selection and "top1-best-on-test" in record.metrics else 0)

    def __init__(self, candidates: int = 0) -> None:
        super().__init__((3, 1 + candidates))

    def check(self, counts: np.ndarray, *, where: object) -> None:
        top1_S, top5_S, images_S = counts
        if (top1_S > top5_S).any() or (top5_S > images_S).any() or len(set(images_S.tolist())) > 1:
            raise UserError("the counts of images that are right and of all images contradict each other", where=where)


class CandidateCounts(ClassificationCounts):
    """The same with all candidates, and the habit of papers beside the honest choice."""

    specs: ClassVar[dict[str, MetricSpec]] = {**ClassificationCounts.specs, "top1-best-on-test": PERCENT}


def counts_of(candidates: int) -> ClassificationCounts:
    """An empty one. candidates: how many are scored beside the chosen head; 0 where there is only one head."""
    return CandidateCounts(candidates) if candidates else ClassificationCounts()
