"""Image-text retrieval scored over a data set: R@1, R@5 and R@10 in both directions, in percent.

R@k is the hit rate of the CLIP papers: of an image, whether any of its captions is among the k nearest captions; of a caption, whether
its image is among the k nearest images (CLIP_benchmark, metrics/zeroshot_retrieval.py). "recall@k" is recall proper: the share of an
image's captions that is among the k nearest, averaged over images. A caption has one image, so from text to image the two are one.

What is counted belongs to an image and all of its captions, for they are not independent: it is what the bootstrap draws. An encoder may
give several embeddings of an image; the metrics of those after the first are named for their number, "text-to-image R@1 (token 1)".

Axes: E embeddings of an image, M counts, N images, k the three ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts, ratio
from tips_bench.metrics.spec import PERCENT, MetricSpec

RANKS = (1, 5, 10)
# Recall of one image in whole numbers: the least common multiple of 1-15, so that it is exact up to 15 captions an image.
SHARES = 360360
IMAGES, CAPTIONS = 0, 1
IMAGE_TO_TEXT, RECALL, TEXT_TO_IMAGE = slice(2, 5), slice(5, 8), slice(8, 11)
COUNTS = 11
# Metric without its rank -> (columns of the counts, the column it is a share of, what one is counted as)
PARTS = {
    "image-to-text R": (IMAGE_TO_TEXT, IMAGES, 1),
    "image-to-text recall": (RECALL, IMAGES, SHARES),
    "text-to-image R": (TEXT_TO_IMAGE, CAPTIONS, 1),
}


def image_counts(own_xk: np.ndarray, hits_xk: np.ndarray, captions_x: np.ndarray | int) -> np.ndarray:
    """counts_xM, int64, of images under one embedding.

    own_xk: how many of an image's captions are among the k nearest. hits_xk: for how many of them it is among the k nearest images.
    """
    own_xk, hits_xk, captions_x1 = (np.asarray(counts, np.int64) for counts in (own_xk, hits_xk, np.asarray(captions_x)[..., None]))
    shares_xk = np.rint(own_xk * SHARES / captions_x1).astype(np.int64)
    return np.concatenate([np.ones_like(captions_x1), captions_x1, own_xk > 0, shares_xk, hits_xk], axis=-1)


def metric_names(embeddings: int) -> list[str]:
    """The metrics of so many embeddings of an image, in the order of `summary`."""
    return [f"{part}@{rank}{_token(index)}" for index in range(embeddings) for part in PARTS for rank in RANKS]


def embeddings_in(names: Iterable[str]) -> int:
    """Of how many embeddings an image the metrics with these names are, at least 1."""
    return max(1, sum(name.startswith("text-to-image R@1") and not name.startswith("text-to-image R@10") for name in names))


def _token(index: int) -> str:
    return f" (token {index})" if index else ""


def summary(counts_xEM: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric in percent, of shape ... for summed counts of shape ...EM; NaN where nothing was scored."""
    counts_xEM = np.asarray(counts_xEM, np.float64)  # sums stay exact below 2**53
    values: dict[str, np.ndarray] = {}
    for index in range(counts_xEM.shape[-2]):
        counts_xM = counts_xEM[..., index, :]
        for part, (columns, of, unit) in PARTS.items():
            for rank, found_x in zip(RANKS, np.moveaxis(counts_xM[..., columns], -1, 0), strict=True):
                values[f"{part}@{rank}{_token(index)}"] = ratio(100.0 * found_x, unit * counts_xM[..., of])
    return values


class RetrievalCounts(SampleCounts):
    """The counts_EM of every image of a split."""

    summary = staticmethod(summary)

    @classmethod
    def of_record(cls, record: Any) -> RetrievalCounts:
        """Of as many embeddings an image as the record's metrics name."""
        return cls(embeddings_in(record.metrics))

    def __init__(self, embeddings: int) -> None:
        super().__init__((embeddings, COUNTS))

    @property
    def specs(self) -> Mapping[str, MetricSpec]:  # type: ignore[override]
        """All of them in percent."""
        return dict.fromkeys(metric_names(self.shape[0]), PERCENT)

    def check(self, counts: np.ndarray, *, where: object) -> None:
        for counts_M in counts:
            found, shares, hits = counts_M[IMAGE_TO_TEXT], counts_M[RECALL], counts_M[TEXT_TO_IMAGE]
            captions = counts_M[CAPTIONS]
            possible = counts_M[IMAGES] == 1 and captions >= 1 and captions == counts[0, CAPTIONS]
            limits = ((found, 1), (shares, SHARES), (hits, captions))
            possible &= all((values[-1] <= most) and (np.diff(values) >= 0).all() for values, most in limits)
            if not possible or ((shares > 0) != (found > 0)).any():
                raise UserError("the counts of images, captions and hits contradict each other", where=where)
