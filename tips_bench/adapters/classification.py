"""The task family `classification`: whole images, a head for their classes or the classes' names, top-1 and top-5.

Features of whole images are kept in stores, so a killed run is taken up where it was.

Axes: N images, F features of an image, D of an embedding, S candidates, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from tips_bench.adapters.base import Split
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.features.cache import FeatureCache, ResumableArray
from tips_bench.features.class_prompts import names_of, prompts_of
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.features.inference import Inference
from tips_bench.features.prompts import check_prompts, embed_names
from tips_bench.metrics.classification import ClassificationCounts, count
from tips_bench.pictures.neighbors import SHOWN, guess_panel, neighbor_panel
from tips_bench.pictures.panels import contact_sheet, save_png
from tips_bench.probes.base import Fit, FitContext, Head
from tips_bench.probes.image_heads import Affine, AffineHeads, ImageHead, rank_all
from tips_bench.probes.training_free.knn import KnnHead
from tips_bench.registry import METRICS, PROBES


class ClassOptions(Strict):
    """class_names: for zero-shot, in the order of the folders' names; "folders" takes those, "openai-imagenet" OpenAI's list."""

    class_names: list[str] | Literal["folders", "openai-imagenet"] = "folders"


class ZeroShotOptions(Strict):
    """prompts: texts with {} for the name, or "openai-80". token: which of the encoder's embeddings meets the text."""

    type: Literal["zero-shot"]
    prompts: list[str] | Literal["openai-80"]
    token: int = Field(ge=0)

    @field_validator("prompts")
    @classmethod
    def _with_a_place(cls, prompts: list[str] | str) -> list[str] | str:
        return check_prompts(prompts) if isinstance(prompts, list) else prompts


class ClassificationAdapter:
    """Joins reader, probe and counts for one protocol."""

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, where = task, f"protocol {protocol.name}"
        self.options = parse(ClassOptions, task.options, where=f"task {task.name}", prefix="options.")
        kind = str(protocol.probe.get("type"))
        self.zero_shot = parse(ZeroShotOptions, protocol.probe, where=where, prefix="probe.") if kind == "zero-shot" else None
        self.probe: Any = None if self.zero_shot else PROBES.get(kind)(protocol.probe, where)
        self.needs_text = self.zero_shot is not None
        self._train: Split | None = None
        self._named: AffineHeads | None = None

    def open(self, root: Path, limit: int | None) -> tuple[Split | None, Split]:
        """(train, test); no train split for zero-shot. Errors: splits of other classes; a list of names of another length."""
        test = Split.open(self.task.data, root, "test", limit)
        if self.zero_shot:
            names_of(self.options.class_names, test.reader.classes, where=f"task {self.task.name}")
            return None, test
        train = self._train = Split.open(self.task.data, root, "train", limit)
        if train.reader.classes != test.reader.classes:
            odd = sorted(set(train.reader.classes) ^ set(test.reader.classes))
            problem = f"the splits {train.name} and {test.name} have other classes: {odd[0]!r} is in one of them"
            raise UserError(problem, where=test.reader.root, fix="Let both have the same folders, or set data.options.classes_of.")
        return train, test

    def fit(self, context: FitContext) -> Fit:
        """The probe's fit on the training split."""
        return self.probe.fit(context)

    def load_head(self, path: Path) -> Head:
        """The head that an earlier try saved."""
        return self.probe.load(path)

    def score(self, inference: Inference, test: Split, fit: Fit, work: FeatureCache) -> ClassificationCounts:
        """Counts of every image; features that an earlier try made are taken up from the inference's cache."""
        reader = test.reader
        store = self._features(inference, test)
        head = self._head(inference.extractor.encoder, test, fit, work)
        ranks_NS = rank_all(head, store.arrays["features"], reader.labels_N[test.indices])
        store.close()
        result: ClassificationCounts = METRICS.get("classification")(0 if head.choice is None else head.candidates)
        for index, ranks_S in zip(test.indices, ranks_NS, strict=True):
            result.update(reader.ids[index], reader.groups[index], count(ranks_S, head.choice))
        return result

    def _features(self, inference: Inference, test: Split) -> ResumableArray:
        """Features of the test split, an item an image. Errors: an embedding that the encoder does not have."""
        assert inference.cache is not None, "a run has a cache"
        extractor, encoder = inference.extractor, inference.extractor.encoder
        if self.zero_shot is None:
            whole = self.probe.whole(extractor)
        elif self.zero_shot.token >= encoder.embeddings:
            has = f"encoder {encoder.spec.name!r} has {encoder.embeddings} that can meet a text"
            raise UserError(f"probe.token = {self.zero_shot.token}: {has}", fix="Use a protocol of the first token.")
        else:
            width = encoder.encode_text([test.reader.names[0]]).shape[1]
            whole = ImageEmbedding.embedding(extractor, self.zero_shot.token, width)
        return encode_images(extractor, test.reader, test.indices, whole, inference.cache, "test-whole")

    def _head(self, encoder: Encoder, test: Split, fit: Fit, work: FeatureCache) -> ImageHead:
        """The fitted head, or the classes' names as one, whose scores are cosines times the length of an image's embedding."""
        if self.zero_shot is None:
            head: ImageHead = fit.head
            return head.on(encoder.device)
        if self._named is None:
            names = names_of(self.options.class_names, test.reader.classes, where=f"task {self.task.name}")
            prompts = prompts_of(self.zero_shot.prompts)
            fit.report.update(classes=len(names), prompts=len(prompts))
            weight_CD = embed_names(encoder, names, prompts, work).cpu()
            affine = Affine(np.arange(weight_CD.shape[1]), weight_CD[None], torch.zeros(1, len(names)))
            self._named = AffineHeads([affine], None).on(encoder.device)
        return self._named

    def draw(self, inference: Inference, test: Split, fit: Fit, number: int, stem: Path) -> list[str]:
        """For `number` images their nearest training images, or the first guesses of the head; and a sheet of all."""
        assert inference.cache is not None, "a run has a cache"
        chosen, store = test.pick(number), self._features(inference, test)
        place = {index: item for item, index in enumerate(test.indices)}
        features_NF = store.arrays["features"][[place[index] for index in chosen]]
        store.close()
        head = self._head(inference.extractor.encoder, test, fit, inference.cache)
        panels = (
            self._neighbors(test, chosen, head, features_NF)
            if isinstance(head, KnnHead)
            else self._guesses(test, chosen, head, features_NF)
        )
        names = [f"{stem.name}-sheet.png", *(f"{stem.name}-{position}.png" for position in range(1, len(panels) + 1))]
        for name, picture in zip(names, [contact_sheet(panels), *panels], strict=True):
            save_png(picture, stem.with_name(name))
        return names

    def _neighbors(self, test: Split, chosen: list[int], head: KnnHead, features_NF: np.ndarray) -> list[np.ndarray]:
        assert self._train is not None, "neighbours are training images"
        train, panels = self._train.reader, []
        found = head.search.nearest(features_NF, SHOWN)
        for index, rows_k, near_k in zip(chosen, found.rows_Qk, found.similarities_Qk, strict=True):
            sample, others = test.reader.load(index), [train.load(self._train.indices[row]) for row in rows_k]
            captions = [f"{near:.3f} {test.reader.names[other.label]}" for near, other in zip(near_k, others, strict=True)]
            tiles = [(other.image_HW3, text, other.label == sample.label) for other, text in zip(others, captions, strict=True)]
            panels.append(neighbor_panel(sample.image_HW3, test.reader.names[sample.label], tiles))
        return panels

    def _guesses(self, test: Split, chosen: list[int], head: ImageHead, features_NF: np.ndarray) -> list[np.ndarray]:
        panels = []
        for index, scores_C in zip(chosen, head.scores(features_NF)[head.choice or 0], strict=True):
            sample, order = test.reader.load(index), np.argsort(-scores_C, kind="stable")[:SHOWN]
            guesses = [(f"{test.reader.names[label]} ({scores_C[label]:.3g})", bool(label == sample.label)) for label in order]
            panels.append(guess_panel(sample.image_HW3, test.reader.names[sample.label], guesses))
        return panels
