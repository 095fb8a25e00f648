"""The task family `zeroshot-segmentation`: patches get the class whose name they are nearest to; only a threshold is ever fitted.

    tips-bench run --task zeroshot-ade150 --model tipsv2-l14 --protocol tips-slide

Axes: N windows of an image, h w token grid, D feature, H W pixels of the labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import field_validator, model_validator
from torch.nn import functional as F

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.label_maps import count_maps, draw_maps
from tips_bench.cards import ProtocolCard, Strict, TaskCard, load_card, parse
from tips_bench.data.base import SegmentationReader
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.class_prompts import prompts_of
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.inference import Prediction
from tips_bench.features.prompts import embed_names
from tips_bench.metrics.samples import SampleCounts
from tips_bench.probes.base import Fit
from tips_bench.probes.training_free.class_names import Scored, TextHead, TextOptions, Threshold, best_class, choose_threshold, score_rows
from tips_bench.probes.training_free.maskclip import smoothed, without_absent
from tips_bench.probes.training_free.pamr import refine
from tips_bench.probes.training_free.pixel_classes import pixel_classes


class ZeroShotOptions(Strict):
    """What a set's classes are called in prompts.

    names: each class of the reader, in the order of the label ids -> its name, or several. background: the class that is everything
    else, or null. vocabularies: other names for the same classes, by whose they are: a name or several for each class in that order. A name
    may stand for two classes there, as their sources have it.
    """

    names: dict[str, str | list[str]]
    background: str | None = None
    vocabularies: dict[str, list[str | list[str]]] = {}

    @field_validator("names")
    @classmethod
    def _spoken(cls, names: dict[str, str | list[str]]) -> dict[str, list[str]]:
        listed = {label: _listed(spoken) for label, spoken in names.items()}
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

    @model_validator(mode="after")
    def _vocabularies_name_all_classes(self) -> ZeroShotOptions:
        for whose, spoken in self.vocabularies.items():
            if len(spoken) != len(self.names):
                raise ValueError(f"the vocabulary {whose!r} has names for {len(spoken)} classes, and there are {len(self.names)}")
            if any(not name.strip() for names in map(_listed, spoken) for name in names or [""]):
                raise ValueError(f"a class has no name in the vocabulary {whose!r}")
        return self

    def spoken(self, vocabulary: str | None) -> list[list[str]]:
        """The names of each class. vocabulary: None = `names`. Errors (KeyError): an unknown one."""
        return [_listed(names) for names in (self.names.values() if vocabulary is None else self.vocabularies[vocabulary])]


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


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
        vocabulary = self.options.vocabulary
        if vocabulary is not None and vocabulary not in self.classes.vocabularies:
            fix = f"Add it to the task's options.vocabularies, or set probe.vocabulary to {_either(self.classes.vocabularies)}."
            raise UserError(f"task {task.name} has no vocabulary {vocabulary!r}", where=where, fix=fix)
        if self.classes.background is None and (self.options.probability_threshold or self.options.area_threshold is not None):
            problem = "probe.probability_threshold and probe.area_threshold need a background, and the task has none"
            raise UserError(problem, where=where, fix="Set them to 0 and null.")
        self._check_refined()
        self.probe = ThresholdProbe(self) if self._thresholded and self.options.threshold is None else None
        self._head: TextHead | None = None

    def _check_refined(self) -> None:
        """Errors: options of MaskCLIP that do not go together."""
        options, where = self.options, f"protocol {self.protocol.name}"
        if (options.smooth is not None) != self.protocol.features.keys:
            raise UserError("probe.smooth and features.keys go together", where=where, fix="Set both, or neither.")
        if (options.absent is not None or options.smooth is not None) and self.protocol.inference.mode != "whole":
            raise UserError("probe.absent and probe.smooth do not work with sliding windows", where=where, fix="Set both to null.")

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

    def draw(self, context: RunContext, splits: Splits[SegmentationReader], head: Threshold | None, indices: list[int]) -> list[Picture]:
        """Image | truth | prediction | PCA of the features."""
        reader = splits.test.reader
        return draw_maps(lambda indices: self._predict(context, reader, indices, head), reader, indices)

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
        if self.options.logit_scale is not None:
            yield from self._decided(context, reader, indices, self.options.logit_scale)
            return
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
            chunks = score_rows(self.class_scores(head, view.features_NhwD), self.options, windows, padding, sample.labels_HW.shape)
            score_HW, predicted_HW = best_class(chunks, head.id_C)
            yield index, sample, score_HW, predicted_HW, view.features_NhwD

    def class_scores(self, head: TextHead, features_NhwD: torch.Tensor) -> torch.Tensor:
        """[N,C,h,w]: cosines, or what MaskCLIP makes of them."""
        width = head.weight_TD.shape[1]
        scores_NChw = head(features_NhwD[..., :width])
        if self.options.absent is not None:
            scores_NChw = without_absent(scores_NChw, self.options.absent)
        if self.options.smooth is not None:
            scores_NChw = smoothed(scores_NChw, features_NhwD[..., width:], self.options.smooth)
        return scores_NChw

    def _decided(self, context: RunContext, reader: SegmentationReader, indices: list[int], scale: float) -> Iterator[Prediction]:
        """By a softmax over all names in the pixels of the labels."""
        background = None if self.classes.background is None else self._background
        for index, sample, pieces, features_NhwD in self.name_cosines(context, reader, indices):
            predicted_HW = pixel_classes(pieces, self._text_head(context), self.options, scale, background)
            yield Prediction(index, sample, predicted_HW[None], features_NhwD)

    def name_cosines(
        self, context: RunContext, reader: SegmentationReader, indices: list[int]
    ) -> Iterator[tuple[int, Any, Iterator[torch.Tensor], torch.Tensor]]:
        """(index, sample, cosines with all names as [T, rows, W] pieces at the size of the labels, features_NhwD)."""
        head, inference = self._text_head(context), context.inference
        for index, sample, (view,) in inference.features(reader, indices):
            windows, outer = Windows.of(view.inner, inference.window), sample.labels_HW.shape
            cosines_NThw = head.cosines(view.features_NhwD).permute(0, 3, 1, 2)
            grid, device = (cosines_NThw.shape[2], cosines_NThw.shape[3]), cosines_NThw.device
            upsampling = Upsampling.of(grid, inference.extractor.padding(*windows.size), windows, outer, device)
            mosaic_Thw = windows.mosaic(cosines_NThw)
            if self.options.pamr is None:
                pieces = upsampling.row_chunks(mosaic_Thw)
            else:
                image_3HW = _shown(inference.extractor, sample.image_HW3, outer).to(device)
                pieces = iter([refine(upsampling(mosaic_Thw), image_3HW, self.options.pamr)])
            yield index, sample, pieces, view.features_NhwD

    def _text_head(self, context: RunContext) -> TextHead:
        """The class names as embeddings, made once a run. Errors: an encoder whose patches cannot be compared with its texts."""
        if self._head is None:
            extractor = context.extractor
            encoder, spec = extractor.encoder, extractor.encoder.spec
            if self.protocol.features.values and not encoder.has_values:
                problem = f"encoder {spec.name!r} has no value path, which protocol {self.protocol.name} needs"
                raise UserError(problem, where=f"task {self.task.name}", fix=self._others(values=False))
            if self.protocol.features.attention != "itself":
                encoder.tower_parts()
            classes = self.classes.spoken(self.options.vocabulary)
            spoken = [(name, place) for place, names in enumerate(classes) for name in names]
            weight_TD = embed_names(encoder, [name for name, _ in spoken], prompts_of(self.options.prompts), context.texts, patches=True)
            if weight_TD.shape[1] != (dim := extractor.dim - extractor.keys_dim):
                problem = f"encoder {spec.name!r} has {dim} features per patch, but text embeddings have {weight_TD.shape[1]}"
                raise UserError(problem, where=f"protocol {self.protocol.name}", fix=self._others(values=True))
            head = TextHead(weight_TD, torch.tensor([place for _, place in spoken]), torch.arange(len(classes)))
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


def _either(vocabularies: dict[str, Any]) -> str:
    return " or ".join(["null", *vocabularies])


def _shown(extractor: Extractor, image_HW3: np.ndarray, outer: tuple[int, int]) -> torch.Tensor:
    """[3,H,W]: the network's input, normalized, at the size of the labels."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in extractor.normalization)
    pixels_3HW = (extractor.pixels(image_HW3) - mean) / std
    return F.interpolate(pixels_3HW[None], outer, mode="bilinear", align_corners=False)[0]


def check_names(names: list[str], classes: list[str], *, where: object) -> None:
    """Refuse a card's class names that are not the reader's classes in the order of the label ids."""
    if len(names) != len(classes):
        problem = f"options.names has {len(names)} classes, and the labels have {len(classes)}"
        raise UserError(problem, where=where, fix="Give one entry for each class, in the order of the label ids.")
    for id, (name, label) in enumerate(zip_longest(names, classes)):
        if name.strip() != label.strip():
            problem = f"options.names has {name!r} as class {id}, and label id {id} means {label!r}"
            raise UserError(problem, where=where, fix="Give the classes in the order of the label ids.")
