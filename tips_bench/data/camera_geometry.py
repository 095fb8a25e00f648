"""Cameras without distortion, and the surface normals that follow from a depth map.

Axes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels: focal lengths fx, fy and principal point cx, cy, for an image of height x width.

    The centre of pixel (row i, column j) is at (j + 0.5, i + 0.5); where a set counts whole numbers at the centres, its reader adds 0.5.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    def boxed(self, rows: slice, columns: slice) -> Intrinsics:
        """Of a part of the image."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return Intrinsics(self.fx, self.fy, self.cx - columns.start, self.cy - rows.start, height, width)

    def resized(self, height: int, width: int) -> Intrinsics:
        """Of the image stretched to height x width."""
        down, right = height / self.height, width / self.width
        return Intrinsics(self.fx * right, self.fy * down, self.cx * right, self.cy * down, height, width)

    def fault(self, height: int, width: int) -> str | None:
        """Why these cannot be the intrinsics of an image of height x width; None where they can."""
        if (self.height, self.width) != (height, width):
            return f"intrinsics of {self.height}x{self.width} pixels for an image of {height}x{width}"
        off = max(abs(self.cx / width - 0.5), abs(self.cy / height - 0.5))
        if not (self.fx > 0 and self.fy > 0 and off < 0.25):
            place = f"a principal point at column {self.cx:.0f} and row {self.cy:.0f}"
            return f"{place} and focal lengths {self.fx:.0f}, {self.fy:.0f} in an image of {height}x{width}: of another resolution?"
        return None


def points(depth_HW: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """points_HW3 in metres, camera frame (x right, y down, z forward), of every pixel's centre."""
    height, width = depth_HW.shape
    x_W = (np.arange(width) + 0.5 - camera.cx) / camera.fx
    y_H = (np.arange(height) + 0.5 - camera.cy) / camera.fy
    depth_HW = depth_HW.astype(np.float64)
    return np.stack([depth_HW * x_W[None], depth_HW * y_H[:, None], depth_HW], axis=-1)


def normals_from_depth(depth_HW: np.ndarray, camera: Intrinsics, jump: float = 0.05) -> np.ndarray:
    """normals_HW3, float32: unit vectors towards the camera; 0 0 0 where they cannot be told.

    The cross product of the differences between the neighbours on both sides, which is exact on a plane and equals the mean of the four
    products that probe3d takes (evals/datasets/utils.py). A pixel has no normal at the border, where it or a neighbour has no depth (there
    probe3d takes it to be very far), and at an edge: where the inverse depth, which is linear along any line of a plane's image, bends by
    more than `jump` of itself.
    """
    normals_HW3 = np.zeros((*depth_HW.shape, 3), dtype=np.float32)
    if min(depth_HW.shape) < 3:
        return normals_HW3
    places_HW3 = points(depth_HW, camera)
    across_hw3 = places_HW3[1:-1, 2:] - places_HW3[1:-1, :-2]
    down_hw3 = places_HW3[2:, 1:-1] - places_HW3[:-2, 1:-1]
    (a_hw, b_hw, c_hw), (x_hw, y_hw, z_hw) = (np.moveaxis(step_hw3, -1, 0) for step_hw3 in (down_hw3, across_hw3))
    normal_hw3 = np.stack([b_hw * z_hw - c_hw * y_hw, c_hw * x_hw - a_hw * z_hw, a_hw * y_hw - b_hw * x_hw], axis=-1)
    length_hw = np.linalg.norm(normal_hw3, axis=-1)
    smooth_hw = _smooth(depth_HW, 0, jump) & _smooth(depth_HW, 1, jump) & (length_hw > 0)
    normal_hw3[~smooth_hw] = 0
    normal_hw3 /= np.where(smooth_hw, length_hw, 1)[..., None]
    away_hw = (normal_hw3 * places_HW3[1:-1, 1:-1]).sum(axis=-1) > 0
    normals_HW3[1:-1, 1:-1] = np.where(away_hw[..., None], -normal_hw3, normal_hw3)
    return normals_HW3


def _smooth(depth_HW: np.ndarray, axis: int, jump: float) -> np.ndarray:
    """Inner pixels whose neighbours along an axis are known and lie on one surface with them."""
    inner = (slice(1, -1), slice(1, -1))
    here, before, after = (np.roll(depth_HW, step, axis)[inner].astype(np.float64) for step in (0, 1, -1))
    known = (here > 0) & (before > 0) & (after > 0)
    bend = np.divide(here, before, out=np.ones_like(here), where=known) + np.divide(here, after, out=np.ones_like(here), where=known) - 2
    return known & (np.abs(bend) <= jump)
