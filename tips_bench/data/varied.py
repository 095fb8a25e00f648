"""Readers whose images are changed as the name of a task says: corrupted, turned; and a share of the training images.

A corruption is drawn from a hash of the image's id and the kind: the same on every machine, in every order, and of all strengths with
the same noise. The truth stays as it is under a corruption, and turns with the image.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.data.base import (
    CaptionSample,
    DepthSample,
    ImageSample,
    InstanceImage,
    LabeledImage,
    NormalsSample,
    Remarked,
    SegmentationSample,
    Sourced,
)
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.registry import CORRUPTIONS
from tips_bench.variants import Changes

# What of a sample turns with its image; for normals, see `turned`.
DENSE = {SegmentationSample: "labels_HW", DepthSample: "depth_HW", NormalsSample: "normals_HW3"}
WITHOUT_PLACES = (ImageSample, LabeledImage, InstanceImage, CaptionSample)
RIGHT_ANGLE = 90


def varied(reader: Any, changes: Changes, role: str) -> Any:
    """The reader of a role ("train", "test") with the images that the changes make of its own. Errors: a reader of no images."""
    if not changes.of_images(role):
        return reader
    if not hasattr(reader, "size"):
        fix = "Name a task of images, or leave the corruption and the rotation out."
        raise UserError("its samples are not single images and cannot be changed", where=f"task {changes.name}", fix=fix)
    return (SourcedVariedReader if isinstance(reader, Sourced) else VariedReader)(reader, changes)


def few(ids: Sequence[str], changes: Changes | None) -> list[int]:
    """Indices of the training samples that are used, in order: all, or at least one of `changes.few`, by a hash of their ids.

    Of two shares of one seed the smaller one is a part of the larger one.
    """
    if changes is None or changes.few is None:
        return list(range(len(ids)))
    order = sorted(range(len(ids)), key=lambda index: digest("few", changes.few_seed, ids[index]))
    return sorted(order[: max(1, len(ids) // changes.few)])


class VariedReader:
    """A reader with changed images; everything else is the reader's own."""

    def __init__(self, reader: Any, changes: Changes) -> None:
        self.reader, self.changes = reader, changes
        self.fingerprint = changes.fingerprint(reader.fingerprint)
        self.remarks: tuple[str, ...] = reader.remarks if isinstance(reader, Remarked) else ()

    def __getattr__(self, name: str) -> Any:
        if name == "reader":  # before it is there: while the object is unpickled
            raise AttributeError(name)
        return getattr(self.reader, name)

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def times(self) -> int:
        """By how many right angles images are turned."""
        return (self.changes.rotate or 0) // RIGHT_ANGLE

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels of the changed image."""
        height, width = self.reader.size(index)
        return (width, height) if self.times % 2 else (height, width)

    def load(self, index: int) -> Any:
        """The changed sample. Errors: as the reader's; a sample whose image cannot be changed."""
        sample = self.reader.load(index)
        if not isinstance(getattr(sample, "image_HW3", None), np.ndarray):
            raise UserError("the samples of this task are not single images", where=self.reader.name, fix="Leave the change out.")
        if self.changes.kind is not None and self.changes.strength is not None:
            sample = replace(sample, image_HW3=corrupted(sample.image_HW3, self.changes.kind, self.changes.strength, sample.id))
        return turned(sample, self.times)


class SourcedVariedReader(VariedReader):
    """The same of a reader that says which files a sample is read from."""

    def sources(self, index: int) -> list[Path]:
        """The files of a sample before it is changed."""
        found: list[Path] = self.reader.sources(index)
        return found


def corrupted(image_HW3: np.ndarray, kind: str, strength: int, id: str) -> np.ndarray:
    """uint8 RGB under a kind of the registry CORRUPTIONS, drawn by the image's id. Errors: a kind whose result is no such image."""
    rng = np.random.default_rng(int(digest("corruption", kind, id)[:32], 16))
    changed_HW3: np.ndarray = CORRUPTIONS.get(kind).apply()(image_HW3, strength, rng)
    if changed_HW3.shape != image_HW3.shape or changed_HW3.dtype != np.uint8:
        problem = f"the corruption makes {changed_HW3.dtype} {changed_HW3.shape} of a uint8 image {image_HW3.shape}"
        raise UserError(problem, where=f"corruption {kind}", fix="Return an array of uint8 and of the same shape.")
    return changed_HW3


def turned(sample: Any, times: int) -> Any:
    """A sample turned counterclockwise by so many right angles, its truth with it. Errors: a sample whose truth is not known to turn."""
    if times == 0:
        return sample
    name = DENSE.get(type(sample))
    if name is None and type(sample) not in WITHOUT_PLACES:
        problem = f"a rotation is not defined for samples of the kind {type(sample).__name__}"
        raise UserError(problem, where=sample.id, fix="Leave +rotate out.")
    parts = {part: np.rot90(getattr(sample, part), times).copy() for part in ("image_HW3", *([name] if name else []))}
    if isinstance(sample, NormalsSample):
        x_HW, y_HW, z_HW = np.moveaxis(parts["normals_HW3"], -1, 0)
        for _ in range(times):  # what pointed right points up, and y runs downwards
            x_HW, y_HW = y_HW, -x_HW
        parts["normals_HW3"] = np.stack([x_HW, y_HW, z_HW], axis=-1)
    return replace(sample, **parts)
