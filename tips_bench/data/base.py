"""The reader contract: a data set on disk as samples with stable ids, and what the readers of each family add to it.

Axes: H W pixels, N samples, L labels of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from tips_bench.data.camera_geometry import Intrinsics

IGNORE = 255


@dataclass(frozen=True)
class ImageSample:
    """One image. id: unique in its split. group: what belongs together, as frames of one scene. image_HW3: uint8 RGB."""

    id: str
    group: str
    image_HW3: np.ndarray


@dataclass(frozen=True)
class SegmentationSample(ImageSample):
    """One image with its labels. labels_HW: uint8 class indices after the set's label rules, 255 = ignored."""

    labels_HW: np.ndarray


@dataclass(frozen=True)
class DepthSample(ImageSample):
    """One image with its depth. depth_HW: float32 metres along the optical axis, 0 = unknown."""

    depth_HW: np.ndarray


@dataclass(frozen=True)
class NormalsSample(ImageSample):
    """One image with its surface normals.

    normals_HW3: float32 unit vectors towards the camera, in its frame (x right, y down, z forward); 0 0 0 = unknown.
    """

    normals_HW3: np.ndarray


@dataclass(frozen=True)
class LabeledImage(ImageSample):
    """One image of one class. label: index into the reader's classes."""

    label: int


@dataclass(frozen=True)
class InstanceImage(ImageSample):
    """One image of a retrieval set. labels: what it shows; an image of a common label in the domain is relevant."""

    domain: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class BoxSample(ImageSample):
    """One image with boxes round its objects. boxes_N4: float64 left, top, right, bottom in pixels. kinds: the class of each."""

    boxes_N4: np.ndarray
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSample(ImageSample):
    """One image with its captions."""

    captions: tuple[str, ...]


SampleT = TypeVar("SampleT", covariant=True)
ImageSampleT = TypeVar("ImageSampleT", bound=ImageSample, covariant=True)


class Reader(Protocol[SampleT]):
    """One split of a data set, its samples sorted by id whatever the file system's order.

    root: the folder it reads. classes: their names, empty for a set without any. groups: of each sample, what belongs together.
    fingerprint: hex SHA-256 over ids, file sizes and label rule: the data's identity in records and caches.
    """

    name: str
    split: str
    root: str
    ids: list[str]
    groups: list[str]
    fingerprint: str

    @property
    def classes(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> SampleT:
        """Decode one sample. Errors: a broken, missing or mismatched file, named."""


class ImageReader(Reader[ImageSampleT], Protocol[ImageSampleT]):
    """A reader of images."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels of the image that `load` gives, from its header."""


class SegmentationReader(ImageReader[SegmentationSample], Protocol):
    """Images with labels. palette: an RGB colour for each class."""

    @property
    def palette(self) -> Sequence[tuple[int, int, int]]: ...


class PixelValueReader(ImageReader[ImageSampleT], Protocol[ImageSampleT]):
    """Images with a measured value for every pixel. remarks: what a record has to say of the data, a sentence each."""

    remarks: tuple[str, ...]

    def intrinsics(self, index: int) -> Intrinsics | None:
        """The camera of a sample as `load` gives it, where the set tells it."""


class DepthReader(PixelValueReader[DepthSample], Protocol):
    """Images with depth. reach: metres between which the median depth of any split lies, for `data check`."""

    reach: tuple[float, float]


NormalsReader = PixelValueReader[NormalsSample]
"""Images with surface normals."""


class ClassificationReader(ImageReader[LabeledImage], Protocol):
    """Images of one class each. names: of the classes, for people. labels_N: the class of each sample."""

    names: list[str]
    labels_N: np.ndarray


class InstanceReader(ImageReader[InstanceImage], Protocol):
    """Images of a retrieval set, its classes the domains. domain_N: index of each image's. labels_NL: its labels, filled up with -1."""

    domain_N: np.ndarray
    labels_NL: np.ndarray


class LabeledReader(ImageReader[ImageSample], Protocol):
    """Images of instances. labels_N: which one each shows, -1 = none that is known."""

    labels_N: np.ndarray


class RankedReader(ImageReader[ImageSample], Protocol):
    """Queries, or the images of the database that is searched.

    classes: directions of search; landmarks in three settings have none. part_N: the part of the database that each image belongs to
    or, of a query, the one that is searched: an index of `classes`, 0 where there are none.
    """

    part_N: np.ndarray

    def answers(self, index: int) -> dict[str, tuple[str, ...]]:
        """Of a query, ids of images of the database, by what they are: "right", or "easy", "hard" and "junk". Nothing of other images."""


@runtime_checkable
class CroppableReader(RankedReader, Protocol):
    """Queries that show a thing in a box."""

    def cropped(self) -> RankedReader:
        """The same queries, each cut to its box."""


class CaptionReader(ImageReader[CaptionSample], Protocol):
    """Images with captions. captions: of each image. faults: a sentence each; a set that has any must not be scored."""

    captions: list[tuple[str, ...]]
    faults: list[str]


@runtime_checkable
class Remarked(Protocol):
    """A reader with something that a record has to say of its data, a sentence each; numbers on it do not compare with published ones."""

    remarks: tuple[str, ...]


@runtime_checkable
class Sourced(Protocol):
    """A reader that says which files a sample is read from: what they hold is then a part of the data's identity."""

    def sources(self, index: int) -> list[Path]:
        """The files of a sample; several samples may share one."""


@runtime_checkable
class LaidOut(Protocol):
    """A reader that knows where the files of its set may lie, and says where it found them."""

    layout: str
