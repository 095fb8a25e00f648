"""The contract of scans: a labelled point cloud, and the RGB-D frames it was seen in.

Cameras are pinholes in OpenCV's frame (x right, y down, z forward); the centre of the pixel in row i and column j has the image
coordinates (j, i), so the principal point of an image W pixels wide is near (W - 1) / 2. Poses are camera-to-world, in metres.

Axes: N points, F frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tips_bench.data.base import Reader


@dataclass(frozen=True)
class Scan:
    """points_N3: float32 metres. colours_N3: uint8 RGB. labels_N: uint8 class indices, 255 = ignored."""

    id: str
    group: str
    points_N3: np.ndarray
    colors_N3: np.ndarray
    labels_N: np.ndarray


@dataclass(frozen=True)
class RgbdFrame:
    """image_HW3: uint8 RGB. depth_HW: float32 metres along the optical axis, 0 = unknown; often of another size than the image."""

    image_HW3: np.ndarray
    depth_HW: np.ndarray


@dataclass(frozen=True)
class Camera:
    """intrinsics_33 in pixels of an image of size (height, width)."""

    intrinsics_33: np.ndarray
    size: tuple[int, int]


class ScanFrames(Protocol):
    """The frames of one scan whose pose is known, in the order in which they were taken.

    poses_F44: camera-to-world, of both cameras. skipped: frames left out because their pose is lost: not finite, or of no extent.
    """

    color: Camera
    depth: Camera
    poses_F44: np.ndarray
    skipped: int

    def __len__(self) -> int: ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image."""

    def load(self, index: int) -> RgbdFrame:
        """Decode one frame. Errors: a broken or missing file, one of another size than the scan's."""


class ScanReader(Reader[Scan], Protocol):
    """One split of a set of scans; those of one place are a group. palette: an RGB colour for each class.

    Errors of `load`: a broken or missing file, labels that do not fit.
    """

    palette: list[tuple[int, int, int]]

    def points(self, index: int) -> int:
        """N of a scan, from a header."""

    def frames(self, index: int) -> ScanFrames:
        """Open the frames. Errors: a broken or missing file, a missing pose, intrinsics of images of another size."""
