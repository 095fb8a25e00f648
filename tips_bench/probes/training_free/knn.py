"""The probe `knn`: nearest neighbours by cosine vote for their classes with exp(similarity / temperature).

DINOv2's protocol (dinov2/eval/knn.py). There the votes are a softmax over the greatest k of the list and are then cut to each k: the
same order of classes, for a softmax only scales all votes of an image. How many neighbours vote is chosen on held-out training images,
never on the scored ones.

Axes: N training images, Q images, F features, S numbers of neighbours, C classes, k neighbours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images, follow, point_to
from tips_bench.features.search import Search
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.image_heads import best_of, rank_all


class KnnOptions(Strict):
    """The knobs of `knn`. k: numbers of neighbours to choose from, ascending. temperature: of the votes."""

    type: str
    k: list[int] = Field(min_length=1)
    temperature: float = Field(gt=0)

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if min(value) < 1 or sorted(set(value)) != value:
            raise ValueError("numbers of neighbours are 1 or more and ascend")
        return value


class KnnHead:
    """Training features and their classes. features_NF: as stored, a memory map of a store's file. among_N: the rows that vote."""

    block = 1 << 12

    def __init__(
        self,
        features_NF: np.ndarray,
        labels_N: np.ndarray,
        classes: int,
        k: list[int],
        temperature: float,
        *,
        choice: int | None,
        among_N: np.ndarray | None = None,
    ) -> None:
        self.features_NF, self.labels_N, self.classes = features_NF, labels_N, classes
        self.k, self.temperature, self.choice = k, temperature, choice
        self.candidates = len(k)
        self.search = Search(features_NF, among_N=among_N)

    def on(self, device: torch.device) -> KnnHead:
        """The same; products are made on this device from now on."""
        self.search = replace(self.search, device=device)
        return self

    def scores(self, features_QF: np.ndarray) -> np.ndarray:
        """votes_SQC, float64; minus infinity for a class without a vote."""
        found = self.search.nearest(features_QF, self.k[-1])
        votes_Qk = np.exp((found.similarities_Qk - 1) / self.temperature)
        places_Qk = np.arange(len(features_QF))[:, None] * self.classes + self.labels_N[found.rows_Qk]
        votes_SQC = np.empty((self.candidates, len(features_QF), self.classes))
        for candidate, k in enumerate(self.k):
            flat = np.bincount(places_Qk[:, :k].ravel(), votes_Qk[:, :k].ravel(), votes_SQC[0].size)
            votes_SQC[candidate] = flat.reshape(votes_SQC[0].shape)
        return np.where(votes_SQC > 0, votes_SQC, -np.inf)

    def save(self, path: Path) -> None:
        """Write all but the features, which stay where they are, as .npz, atomically."""
        choice = -1 if self.choice is None else self.choice
        votes = {"labels": self.labels_N, "classes": self.classes, "k": self.k, "temperature": self.temperature, "choice": choice}
        save_npz(path, **point_to(self.features_NF, path), **votes)

    @classmethod
    def load(cls, path: Path) -> KnnHead:
        """Read what `save` wrote. Errors: a broken file, features that are not there any more."""

        def head(data: Any) -> KnnHead:
            choice, k = int(data["choice"]), data["k"].tolist()
            values = follow(data, path), data["labels"], int(data["classes"]), k, float(data["temperature"])
            return cls(*values, choice=None if choice < 0 else choice)

        return read_npz(path, "probe", head)


class KnnProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    is_memory = True
    load = staticmethod(KnnHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(KnnOptions, options, where=where, prefix="probe.")

    def embedding(self, extractor: Any) -> ImageEmbedding:
        """What of an image is looked at."""
        return ImageEmbedding.tokens(extractor)

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Encode the training images; choose k on a held-out part of them, with the rest as neighbours."""
        options, device = self.options, context.encoder.device
        store = encode_images(context.extractor, train, self.embedding(context.extractor), context.scratch, "train-whole")
        features_NF, labels_N = store.arrays["features"], train.reader.labels_N[train.indices]
        store.close()  # the file stays for the head
        classes, choice = len(train.reader.classes), None
        if len(options.k) > 1:
            kept, held = train.validation_places(context.selection)
            among_N = np.array(kept)
            trial = KnnHead(features_NF, labels_N, classes, options.k, options.temperature, choice=None, among_N=among_N)
            scores, best = best_of(rank_all(trial.on(device), features_NF, labels_N, np.array(held)))
            choice = Choice([{"k": k} for k in options.k], scores, best, len(held))
        chosen = choice.index if choice else None
        head = KnnHead(features_NF, labels_N, classes, options.k, options.temperature, choice=chosen)
        few = f"k = {options.k[-1]} is more than the {len(train)} training images, which all vote then"
        warnings = [few] if options.k[-1] > len(train) else []
        return Fit(head, {"k": options.k[chosen or 0], "images": len(train)}, choice, warnings)
