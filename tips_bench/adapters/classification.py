"""The task family `classification`: whole images, a head for their classes or the classes' names, top-1 and top-5.

Features of whole images are kept in stores, so a killed run is taken up where it was.

Axes: N images, F features of an image, D of an embedding, S candidates, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field, field_validator

from tips_bench.adapters.base import Picture, Scores
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import ClassificationReader
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.class_prompts import BIG_VISION_PROMPTS, canonical_name, names_of, prompts_of
from tips_bench.features.context import RunContext
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.features.prompts import check_prompts, embed_names
from tips_bench.features.store import ResumableArray
from tips_bench.metrics.classification import count, counts_of
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.neighbors import SHOWN, guess_panel, neighbor_panel
from tips_bench.probes.image_heads import Affine, AffineHeads, ImageHead, rank_all
from tips_bench.probes.training_free.knn import KnnHead
from tips_bench.registry import PROBES


class ClassOptions(Strict):
    """class_names: for zero-shot, in the order of the folders' names; "folders" takes those, "openai-imagenet" OpenAI's list."""

    class_names: list[str] | Literal["folders", "openai-imagenet"] = "folders"


class ZeroShotOptions(Strict):
    """prompts: texts with {} for the name, "openai-80", or "big-vision-81", which also brings the names to lower case.

    token: which of the encoder's embeddings meets the text.
    """

    type: Literal["zero-shot"]
    prompts: list[str] | Literal["openai-80", "big-vision-81"]
    token: int = Field(ge=0)

    @field_validator("prompts")
    @classmethod
    def _with_a_place(cls, prompts: list[str] | str) -> list[str] | str:
        return check_prompts(prompts) if isinstance(prompts, list) else prompts


class ClassificationAdapter:
    """Joins reader, probe and counts for one protocol."""

    observed = False

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, where = task, f"protocol {protocol.name}"
        self.options = parse(ClassOptions, task.options, where=f"task {task.name}", prefix="options.")
        kind = str(protocol.probe.get("type"))
        self.zero_shot = parse(ZeroShotOptions, protocol.probe, where=where, prefix="probe.") if kind == "zero-shot" else None
        self.probe: Any = None if self.zero_shot else PROBES.get(kind)(protocol.probe, where)
        self.needs_text = self.zero_shot is not None
        self._named: AffineHeads | None = None

    def open(self, root: Path, limit: int | None) -> Splits[ClassificationReader]:
        """No train split for zero-shot. Errors: splits of other classes; a list of names of another length."""
        splits = Splits.open(self.task.data, root, limit, train=self.probe is not None)
        test = splits.test
        if splits.train is None:
            names_of(self.options.class_names, test.reader.classes, where=f"task {self.task.name}")
        elif splits.train.reader.classes != test.reader.classes:
            odd = sorted(set(splits.train.reader.classes) ^ set(test.reader.classes))
            problem = f"the splits {splits.train.name} and {test.name} have different classes: {odd[0]!r} is only in one of them"
            raise UserError(problem, where=test.reader.root, fix="Use the same class folders in both, or set data.options.classes_of.")
        return splits

    def score(
        self, context: RunContext, splits: Splits[ClassificationReader], head: ImageHead | None, beside: dict[str, SampleCounts]
    ) -> Scores:
        """Counts of every image of the test split."""
        test, reader = splits.test, splits.test.reader
        store = self._features(context, test)
        head, notes = self._head(context, test, head)
        ranks_NS = rank_all(head, store.arrays["features"], reader.labels_N[test.indices])
        store.close()
        result = counts_of(0 if head.choice is None else head.candidates)
        for index, ranks_S in zip(test.indices, ranks_NS, strict=True):
            result.update(reader.ids[index], reader.groups[index], count(ranks_S, head.choice))
        return Scores(result, notes)

    def _features(self, context: RunContext, test: Split[ClassificationReader]) -> ResumableArray:
        """Features of the test split, an item an image. Errors: an embedding that the encoder does not have."""
        extractor, encoder = context.extractor, context.encoder
        if self.zero_shot is None:
            embedding = self.probe.embedding(extractor)
        elif self.zero_shot.token >= encoder.embeddings:
            has = f"encoder {encoder.spec.name!r} has {encoder.embeddings} that can be compared with text"
            raise UserError(f"probe.token = {self.zero_shot.token}: {has}", fix="Use a protocol for the first global token.")
        else:
            width = encoder.encode_text([test.reader.names[0]]).shape[1]
            embedding = ImageEmbedding.embedding(extractor, self.zero_shot.token, width)
        return encode_images(extractor, test, embedding, context.scratch, "test-whole")

    def _head(self, context: RunContext, test: Split[ClassificationReader], fitted: ImageHead | None) -> tuple[ImageHead, dict[str, Any]]:
        """The fitted head, or the classes' names as one, whose scores are cosines times the length of an image's embedding; and notes."""
        if self.zero_shot is None:
            fitted = cast(ImageHead, fitted)  # what the probe fitted
            return fitted.on(context.encoder.device), {}
        names = names_of(self.options.class_names, test.reader.classes, where=f"task {self.task.name}")
        prompts = prompts_of(self.zero_shot.prompts)
        if self.zero_shot.prompts == BIG_VISION_PROMPTS:
            names = [canonical_name(name) for name in names]
        if self._named is None:
            weight_CD = embed_names(context.encoder, names, prompts, context.texts).cpu()
            affine = Affine(np.arange(weight_CD.shape[1]), weight_CD[None], torch.zeros(1, len(names)))
            self._named = AffineHeads([affine], None).on(context.encoder.device)
        return self._named, {"classes": len(names), "prompts": len(prompts)}

    def draw(self, context: RunContext, splits: Splits[ClassificationReader], head: ImageHead | None, indices: list[int]) -> list[Picture]:
        """For each image its nearest training images, or the first guesses of the head."""
        test = splits.test
        store = self._features(context, test)
        place = {index: item for item, index in enumerate(test.indices)}
        features_NF = store.arrays["features"][[place[index] for index in indices]]
        store.close()
        head, _ = self._head(context, test, head)
        panels = (
            self._neighbors(splits, indices, head, features_NF)
            if isinstance(head, KnnHead)
            else self._guesses(test, indices, head, features_NF)
        )
        return [Picture(image_HW3) for image_HW3 in panels]

    def _neighbors(
        self, splits: Splits[ClassificationReader], chosen: list[int], head: KnnHead, features_NF: np.ndarray
    ) -> list[np.ndarray]:
        train, test, panels = splits.needed(), splits.test, []
        found = head.search.nearest(features_NF, SHOWN)
        for index, rows_k, near_k in zip(chosen, found.rows_Qk, found.similarities_Qk, strict=True):
            sample, others = test.reader.load(index), [train.reader.load(train.indices[row]) for row in rows_k]
            captions = [f"{near:.3f} {test.reader.names[other.label]}" for near, other in zip(near_k, others, strict=True)]
            tiles = [(other.image_HW3, text, other.label == sample.label) for other, text in zip(others, captions, strict=True)]
            panels.append(neighbor_panel(sample.image_HW3, test.reader.names[sample.label], tiles))
        return panels

    def _guesses(self, test: Split[ClassificationReader], chosen: list[int], head: ImageHead, features_NF: np.ndarray) -> list[np.ndarray]:
        panels = []
        for index, scores_C in zip(chosen, head.scores(features_NF)[head.choice or 0], strict=True):
            sample, order = test.reader.load(index), np.argsort(-scores_C, kind="stable")[:SHOWN]
            guesses = [(f"{test.reader.names[label]} ({scores_C[label]:.3g})", bool(label == sample.label)) for label in order]
            panels.append(guess_panel(sample.image_HW3, test.reader.names[sample.label], guesses))
        return panels
