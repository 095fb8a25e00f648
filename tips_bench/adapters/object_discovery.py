"""The task family `object-discovery`: one box round an object of an image, found in its patch features, with nothing fitted.

Axes: h w token grid, D feature; the axis of 4 is left, top, right, bottom in pixels of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import BoxSample, ImageReader
from tips_bench.data.split import Splits
from tips_bench.errors import UserError, unknown_name
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.metrics.discovery import DiscoveryCounts, count, is_correct, overlap
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.boxes import Drawn, box_panel
from tips_bench.probes.training_free.discovery import Found, lost, tokencut

NOTES = ("images whose graph needed a full decomposition", "images that could not be cut in two")


class LostOptions(Strict):
    """candidates: patches that are similar to few others, of which those similar to the seed say what belongs to the object."""

    type: Literal["lost"]
    candidates: int = Field(gt=0)

    def find(self, features_hwD: Tensor) -> Found:
        """The object of an image."""
        return lost(features_hwD, self.candidates)


class TokenCutOptions(Strict):
    """threshold: the cosine above which two patches are similar. weak: the edge of the graph between all others."""

    type: Literal["tokencut"]
    threshold: float = Field(gt=-1, lt=1)
    weak: float = Field(gt=0, lt=1)

    def find(self, features_hwD: Tensor) -> Found:
        """The object of an image."""
        return tokencut(features_hwD, self.threshold, self.weak)


METHODS: dict[str, type[LostOptions] | type[TokenCutOptions]] = {"lost": LostOptions, "tokencut": TokenCutOptions}


class DiscoveryAdapter:
    """Joins reader, method and counts for one protocol. Errors: images that are padded otherwise than at the bottom and the right."""

    needs_text = False
    observed = False
    probe = None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        where, kind = f"protocol {protocol.name}", str(protocol.probe.get("type"))
        if kind not in METHODS:
            raise unknown_name("method of object discovery", kind, METHODS, where=where)
        self.task, self.options = task, parse(METHODS[kind], protocol.probe, where=where, prefix="probe.")
        if protocol.features.upsampler is not None:
            raise UserError("objects are found on the encoder's own grid", where=where, fix="Set features.upsampler to null.")
        if protocol.image.fit != "corner" or protocol.image.crops:
            problem = f"image.fit = {protocol.image.fit}: boxes are found in whole images, padded at the bottom and the right"
            raise UserError(problem, where=where, fix="Set image.fit to corner, and crop nothing.")

    def open(self, root: Path, limit: int | None) -> Splits[ImageReader[BoxSample]]:
        """The test split alone."""
        return Splits.open(self.task.data, root, limit, train=False)

    def score(self, context: RunContext, splits: Splits[ImageReader[BoxSample]], head: None, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every image of the test split."""

        def outcomes(indices: list[int]) -> Iterator[Scored]:
            for index, sample, found, box_4 in self._found(context.extractor, splits.test.reader, indices):
                yield Scored(index, sample, count(box_4, sample.boxes_N4), notes=(int(found.full), int(found.uncut)))

        return score_samples(context, splits.test, DiscoveryCounts(), beside, outcomes, NOTES)

    def _found(
        self, extractor: Extractor, reader: ImageReader[BoxSample], indices: list[int]
    ) -> Iterator[tuple[int, BoxSample, Found, np.ndarray]]:
        """(index, sample, object in patches, its box_4) of this rank's part of the images."""
        for batch, samples, pixels_B3HW in extractor.batches(reader, indices):
            inner = pixels_B3HW.shape[-2], pixels_B3HW.shape[-1]
            for index, sample, features_hwD in zip(batch, samples, extractor.encode(pixels_B3HW).features_BhwD, strict=True):
                found = self.options.find(features_hwD)
                yield index, sample, found, in_pixels(found.box_4, extractor.patch_size, inner, sample.image_HW3.shape[:2])

    def draw(self, context: RunContext, splits: Splits[ImageReader[BoxSample]], head: None, indices: list[int]) -> list[Picture]:
        """Image with boxes | what the method went by | the object's patches."""
        drawn = {}
        for index, sample, found, box_4 in self._found(context.extractor, splits.test.reader, indices):
            drawn[index] = Picture(box_panel(to_draw(sample, found, box_4)))
        return [drawn[index] for index in indices]


def to_draw(sample: BoxSample, found: Found, box_4: np.ndarray) -> Drawn:
    """What is drawn of an image with its object."""
    right, (intersection_N, union_N) = is_correct(box_4, sample.boxes_N4), overlap(box_4, sample.boxes_N4)
    caption = f"{'correct' if right else 'not correct'}, IoU {float((intersection_N / union_N).max()):.2f}"
    return Drawn(sample.image_HW3, sample.boxes_N4, box_4, right, caption, found.map_hw, found.mask_hw, found.seed)


def in_pixels(box_4: np.ndarray, patch_size: int, inner: tuple[int, int], outer: tuple[int, int]) -> np.ndarray:
    """A box in patches as pixels of the image, float64. inner: (height, width) before padding, to which it is cut. outer: of the image."""
    height, width = inner
    box_4 = np.minimum(box_4.astype(np.float64) * patch_size, (width, height, width, height))
    return box_4 * np.tile(np.array(outer[::-1]) / np.array(inner[::-1]), 2)
