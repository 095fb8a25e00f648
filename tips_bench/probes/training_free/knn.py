"""The probe `knn`: nearest neighbours by cosine vote for their classes with exp(similarity / temperature).

DINOv2's protocol (dinov2/eval/knn.py). There the votes are a softmax over the greatest k of the list and are then cut to each k: the
same order of classes, for a softmax only scales all votes of an image. How many neighbours vote is chosen on held-out training images,
never on the scored ones.

Axes: N training images, Q images, F features, S numbers of neighbours, C classes, k neighbours.
"""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from tips_bench.cards import Strict, parse
from tips_bench.data.validation_split import hold_out
from tips_bench.errors import UserError
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images, follow, point_to
from tips_bench.features.search import Search
from tips_bench.files import atomic
from tips_bench.probes.base import Choice, Fit, FitContext
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
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                **point_to(self.features_NF, path),
                labels=self.labels_N,
                classes=self.classes,
                k=self.k,
                temperature=self.temperature,
                choice=-1 if self.choice is None else self.choice,
            )

    @classmethod
    def load(cls, path: Path) -> KnnHead:
        """Read what `save` wrote. Errors: a broken file, features that are not there any more."""
        try:
            with np.load(path, allow_pickle=False) as data:
                choice, k = int(data["choice"]), data["k"].tolist()
                values = follow(data, path), data["labels"], int(data["classes"]), k, float(data["temperature"])
                return cls(*values, choice=None if choice < 0 else choice)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise UserError("not a saved probe, or a broken one", where=path, fix="Delete its folder and run again.") from error


class KnnProbe:
    """Built from a card's `probe` mapping."""

    load = staticmethod(KnnHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(KnnOptions, options, where=where, prefix="probe.")

    def whole(self, extractor: Any) -> ImageEmbedding:
        """What of an image is looked at."""
        return ImageEmbedding.tokens(extractor)

    def fit(self, context: FitContext) -> Fit:
        """Encode the training images; choose k on a held-out part of them, with the rest as neighbours."""
        options, reader, indices = self.options, context.reader, context.indices
        device = context.extractor.encoder.device
        store = encode_images(context.extractor, reader, indices, self.whole(context.extractor), context.cache, "train-whole")
        features_NF, labels_N = store.arrays["features"], reader.labels_N[indices]
        store.close()  # the file stays for the head
        classes, choice = len(reader.classes), None
        if len(options.k) > 1:
            ids, groups = ([names[index] for index in indices] for names in (reader.ids, reader.groups))
            kept, held = hold_out(ids, groups, context.selection.fraction, context.selection.max_images)
            among_N = np.array(kept)
            trial = KnnHead(features_NF, labels_N, classes, options.k, options.temperature, choice=None, among_N=among_N)
            scores, best = best_of(rank_all(trial.on(device), features_NF, labels_N, np.array(held)))
            choice = Choice([{"k": k} for k in options.k], scores, best, len(held))
        chosen = choice.index if choice else None
        head = KnnHead(features_NF, labels_N, classes, options.k, options.temperature, choice=chosen)
        few = f"k = {options.k[-1]} is more than the {len(indices)} training images, which all vote then"
        warnings = [few] if options.k[-1] > len(indices) else []
        return Fit(head, {"k": options.k[chosen or 0], "images": len(indices)}, choice, warnings)
