"""The contract of pairs of images: points that are known to belong together, or views of one scene whose geometry is known.

A reader of pairs holds the images by themselves in `images`, so that each is read once however many pairs it is in. Image coordinates are
(x, y) in pixels; a point (x, y) of a keypoint file is the pixel in column x and row y.

Axes: H W pixels, K points of a pair; the axis of 2 is the first and the second image, or x and y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from tips_bench.data.base import ImageSample, Reader
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError
from tips_bench.files import digest


@dataclass(frozen=True)
class Pair:
    """first, second: indices of its images in the reader's `images`; points of the first are looked for in the second.

    kind: index into the reader's classes: a category, or a range of angles.
    """

    id: str
    group: str
    kind: int
    first: int
    second: int


@dataclass(frozen=True)
class KeypointPair(Pair):
    """points_2K2: float64 pixels, the same point in both images. box: x1, y1, x2, y2 of the object in the second image; None = none told.

    size: (height, width) of the second image in pixels. difficulty: the number of the pair's level in each of
    tips_bench.metrics.difficulty's KINDS; None = not told.
    """

    points_2K2: np.ndarray
    box: tuple[float, float, float, float] | None
    size: tuple[int, int]
    difficulty: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ViewPair(Pair):
    """Two views of one scene, with the point of the scene that is seen at each place of a grid over each image.

    points_2HW3: float64 meters in each view's own camera frame (x right, y down, z forward); z = 0 where it is not known. Both views are
    sampled alike. move_44: from the first camera's frame to the second's. focal: (fx, fy) in pixels of the second image. angle: degrees
    between the directions in which the cameras look, as the angle of the rotation between them.
    """

    points_2HW3: np.ndarray
    move_44: np.ndarray
    focal: tuple[float, float]
    angle: float


class PairImages(ImageFiles):
    """The images that the pairs of a split are made of."""

    def __init__(self, name: str, split: str, root: Path, files: Mapping[str, str], *, how: str, turned: bool) -> None:
        self.turned = turned
        super().__init__(name, split, root, files, how=how, missing="an image that a pair names is missing")

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""
        return ImageSample(self.ids[index], self.groups[index], self.image(index))


class ImagesOfPairs(Protocol):
    """Images by themselves."""

    ids: list[str]

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels that `load` gives."""

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""

    def sources(self, index: int) -> list[Path]:
        """The files that an image, and what is known of it, are read from."""


PairT = TypeVar("PairT", bound=Pair, covariant=True)


class PairReader(Reader[PairT], Protocol[PairT]):
    """One split of a set of pairs, sorted by id."""

    images: ImagesOfPairs

    def pair(self, index: int) -> Pair:
        """Which images a pair is made of; reads no file."""

    def sources(self, index: int) -> list[Path]:
        """The files that a pair is read from."""


KnownT = TypeVar("KnownT", bound=Pair)
ImagesT = TypeVar("ImagesT", bound=ImagesOfPairs)


class KnownPairs(Generic[KnownT, ImagesT]):
    """What readers share whose pairs are all known from the start: sorted by id. Errors: two pairs of one name."""

    def __init__(self, pairs: Sequence[KnownT], images: ImagesT, root: Path) -> None:
        self.root, self.images = str(root), images
        self._pairs = sorted(pairs, key=lambda pair: pair.id)
        self.ids, self.groups = [pair.id for pair in self._pairs], [pair.group for pair in self._pairs]
        if len(set(self.ids)) < len(self.ids):
            raise UserError("two pairs have the same name", where=root, fix="Get the lists of pairs again.")

    def __len__(self) -> int:
        return len(self.ids)

    def pair(self, index: int) -> KnownT:
        """Which images a pair is made of, and all else that is known of it without a file."""
        return self._pairs[index]

    def sources(self, index: int) -> list[Path]:
        """The files of both images, and of what is known of them."""
        pair = self._pairs[index]
        return [*self.images.sources(pair.first), *self.images.sources(pair.second)]


class KeypointFiles(KnownPairs[KeypointPair, PairImages]):
    """A reader of keypoint pairs that are all known from the start. remarks: what a record has to say of the data."""

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        classes: Sequence[str],
        pairs: Sequence[KeypointPair],
        images: PairImages,
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(pairs, images, root)
        self.name, self.split, self.classes, self.remarks = name, split, list(classes), remarks
        known = (value for pair in self._pairs for value in (pair.id, pair.kind, pair.points_2K2.tolist(), pair.box))
        self.fingerprint = digest(*images.ids, *images.image_bytes, *known)

    def load(self, index: int) -> KeypointPair:
        """A pair; reads no file."""
        return self.pair(index)
