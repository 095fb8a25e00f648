"""The task family `zeroshot-segmentation`: patches get the class whose name they are nearest to; only a threshold is ever fitted.

    tips-bench run --task zeroshot-ade150 --model tipsv2-l14 --protocol tips-slide

Axes: N windows of an image, h w token grid, D feature, H W pixels of the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from pydantic import field_validator, model_validator

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.label_maps import count_maps, draw_maps
from tips_bench.cards import ProtocolCard, Strict, TaskCard, load_card, parse
from tips_bench.data.base import SegmentationReader
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Windows
from tips_bench.features.inference import Prediction
from tips_bench.features.prompts import embed_names
from tips_bench.metrics.samples import SampleCounts
from tips_bench.probes.base import Fit
from tips_bench.probes.training_free.class_names import Scored, TextHead, TextOptions, Threshold, best_class, choose_threshold, score_rows


class ZeroShotOptions(Strict):
    """What a set's classes are called in prompts.

    names: each class of the reader, in the order of the label ids -> its name, or several. background: the class that is everything
    else, or null.
    """

    names: dict[str, str | list[str]]
    background: str | None = None

    @field_validator("names")
    @classmethod
    def _spoken(cls, names: dict[str, str | list[str]]) -> dict[str, list[str]]:
        listed = {label: [name] if isinstance(name, str) else name for label, name in names.items()}
        seen: dict[str, str] = {}
        for label, spoken in listed.items():
            if not spoken or not all(name.strip() for name in spoken):
                raise ValueError(f"the class {label!r} has no name")
            for name in spoken:
                if name in seen:
                    raise ValueError(f"the name {name!r} is given to {seen[name]!r} and to {label!r}")
                seen[name] = label
        return listed

    @model_validator(mode="after")
    def _background_is_a_class(self) -> ZeroShotOptions:
        if self.background is not None and self.background not in self.names:
            raise ValueError(f"background = {self.background!r} is none of the names' classes")
        return self


class ZeroShotAdapter:
    """Joins readers, text embeddings and the metric for one protocol."""

    needs_text = True
    observed = True

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task, self.protocol = task, protocol
        self.classes = parse(ZeroShotOptions, task.options, where=f"task {task.name}", prefix="options.")
        self.options = parse(TextOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")
        window, where = protocol.inference, f"protocol {protocol.name}"
        if self.options.upsample == "labels" and window.mode != "whole":
            raise UserError("probe.upsample = labels does not work with sliding windows", where=where, fix="Set probe.upsample to image.")
        if window.scales != [1.0] or window.flip:
            raise UserError(
                "zero-shot segmentation uses each image at one scale, without flipping",
                where=where,
                fix="Remove inference.scales and inference.flip from the card.",
            )
        self.probe = ThresholdProbe(self) if self._thresholded and self.options.threshold is None else None
        self._head: TextHead | None = None

    def open(self, root: Path, limit: int | None) -> Splits[SegmentationReader]:
        """A training split only where a threshold is chosen on it. Errors: names that are not the reader's classes."""
        splits = Splits.open(self.task.data, root, limit, train=self.probe is not None)
        check_names(list(self.classes.names), splits.test.reader.classes, where=f"task {self.task.name}")
        return splits

    def score(
        self, context: RunContext, splits: Splits[SegmentationReader], head: Threshold | None, beside: dict[str, SampleCounts]
    ) -> Scores:
        """Counts of every image of the test split."""
        test = splits.test
        return count_maps(context, test, lambda indices: self._predict(context, test.reader, indices, head), beside)

    def draw(self, context: RunContext, splits: Splits[SegmentationReader], head: Threshold | None, number: int) -> list[Picture]:
        """Image | truth | prediction | PCA of the features."""
        test = splits.test
        return draw_maps(lambda indices: self._predict(context, test.reader, indices, head), test, number)

    def fit_threshold(self, context: RunContext, train: Split[SegmentationReader]) -> Fit:
        """The threshold, chosen on held-out training images."""
        identity = self.options.model_dump_json(), self.classes.model_dump_json()
        value, choice = choose_threshold(
            context,
            train,
            lambda indices: self._scored(context, train.reader, indices),
            self.options.shares,
            self._background,
            *identity,
        )
        return Fit(Threshold(value), {"threshold": value}, choice)

    @property
    def _thresholded(self) -> bool:
        return self.classes.background is not None and self.options.background == "threshold"

    @property
    def _background(self) -> int:
        return list(self.classes.names).index(str(self.classes.background))

    def _predict(self, context: RunContext, reader: SegmentationReader, indices: list[int], head: Threshold | None) -> Iterator[Prediction]:
        threshold = head.value if head else self.options.threshold
        for index, sample, score_HW, predicted_HW, features_NhwD in self._scored(context, reader, indices):
            if self._thresholded:
                predicted_HW = np.where(score_HW < threshold, np.uint8(self._background), predicted_HW)
            yield Prediction(index, sample, predicted_HW[None], features_NhwD)

    def _scored(self, context: RunContext, reader: SegmentationReader, indices: list[int]) -> Iterator[Scored]:
        """The best class of each pixel with its score; the background competes only by its names."""
        head, inference = self._text_head(context), context.inference
        for index, sample, (view,) in inference.features(reader, indices):
            windows = Windows.of(view.inner, inference.window)
            padding = inference.extractor.padding(*windows.size)
            chunks = score_rows(head(view.features_NhwD), self.options, windows, padding, sample.labels_HW.shape)
            score_HW, predicted_HW = best_class(chunks, head.id_C)
            yield index, sample, score_HW, predicted_HW, view.features_NhwD

    def _text_head(self, context: RunContext) -> TextHead:
        """The class names as embeddings, made once a run. Errors: an encoder whose patches cannot be compared with its texts."""
        if self._head is None:
            extractor = context.extractor
            encoder, spec = extractor.encoder, extractor.encoder.spec
            if self.protocol.features.values and not encoder.has_values:
                problem = f"encoder {spec.name!r} has no value path, which protocol {self.protocol.name} needs"
                raise UserError(problem, where=f"task {self.task.name}", fix=self._others(values=False))
            spoken = [(name, place) for place, names in enumerate(self.classes.names.values()) for name in names]
            weight_TD = embed_names(encoder, [name for name, _ in spoken], self.options.prompts, context.cache)
            if weight_TD.shape[1] != extractor.dim:
                problem = f"encoder {spec.name!r} has {extractor.dim} features per patch, but text embeddings have {weight_TD.shape[1]}"
                raise UserError(problem, where=f"protocol {self.protocol.name}", fix=self._others(values=True))
            head = TextHead(weight_TD, torch.tensor([place for _, place in spoken]), torch.arange(len(self.classes.names)))
            if self._thresholded:
                head = head.without(self._background)
            self._head = head
        return self._head

    def _others(self, values: bool) -> str:
        """Which of the task's protocols do, or do not, read the value path, as what to do."""
        names = [name for name in self.task.protocols if load_card("protocol", name).features.values == values]
        return f"Protocols that work: {', '.join(names)}." if names else "Choose another encoder."


class ThresholdProbe:
    """The fit of an adapter's threshold."""

    reads_train = True
    load = staticmethod(Threshold.load)

    def __init__(self, adapter: ZeroShotAdapter) -> None:
        self.fit = adapter.fit_threshold


def check_names(names: list[str], classes: list[str], *, where: object) -> None:
    """Refuse a card's class names that are not the reader's classes in the order of the label ids."""
    if len(names) != len(classes):
        problem = f"options.names has {len(names)} classes, and the labels have {len(classes)}"
        raise UserError(problem, where=where, fix="Give one entry for each class, in the order of the label ids.")
    for id, (name, label) in enumerate(zip_longest(names, classes)):
        if name.strip() != label.strip():
            problem = f"options.names has {name!r} as class {id}, and label id {id} means {label!r}"
            raise UserError(problem, where=where, fix="Give the classes in the order of the label ids.")
