"""The reader contract: a data set on disk as samples with stable ids.

Axes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

IGNORE = 255


@dataclass(frozen=True)
class SegmentationSample:
    """One image with its labels. image_HW3: uint8 RGB. labels_HW: uint8 class indices after the set's label rules, 255 = ignored."""

    id: str
    group: str
    image_HW3: np.ndarray
    labels_HW: np.ndarray


class SegmentationReader(Protocol):
    """One split of a segmentation set, its samples sorted by id whatever the file system's order.

    root: the folder it reads. fingerprint: hex SHA-256 over ids, file sizes and label rule: the data's identity in records and caches.
    """

    name: str
    split: str
    root: str
    classes: list[str]
    palette: list[tuple[int, int, int]]
    ids: list[str]
    groups: list[str]
    fingerprint: str

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, from its header."""

    def load(self, index: int) -> SegmentationSample:
        """Decode one sample. Errors: a broken, missing or mismatched file, named."""


@dataclass(frozen=True)
class DepthSample:
    """One image with its depth. image_HW3: uint8 RGB. depth_HW: float32 metres along the optical axis, 0 = unknown."""

    id: str
    group: str
    image_HW3: np.ndarray
    depth_HW: np.ndarray


@dataclass(frozen=True)
class NormalsSample:
    """One image with its surface normals. image_HW3: uint8 RGB.

    normals_HW3: float32 unit vectors towards the camera, in its frame (x right, y down, z forward); 0 0 0 = unknown.
    """

    id: str
    group: str
    image_HW3: np.ndarray
    normals_HW3: np.ndarray


@dataclass(frozen=True)
class LabeledImage:
    """One image of one class. image_HW3: uint8 RGB. label: index into the reader's classes."""

    id: str
    group: str
    image_HW3: np.ndarray
    label: int


@dataclass(frozen=True)
class InstanceImage:
    """One image of a retrieval set. image_HW3: uint8 RGB. labels: what it shows; an image of a common label in the domain is relevant."""

    id: str
    group: str
    image_HW3: np.ndarray
    domain: str
    labels: tuple[int, ...]


@runtime_checkable
class Remarked(Protocol):
    """A reader with something that a record has to say of its data, a sentence each; numbers on it do not compare with published ones."""

    remarks: tuple[str, ...]
