"""Angles between views, rotations from quaternions, and how far two matched points are from being one.

Axes: k matches; the axes of 3 and 4 are those of points and of rigid moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tips_bench.errors import UserError


def degrees_of(move_44: np.ndarray) -> Any:
    """The angle of the rotation in a rigid move, 0 to 180 degrees; shape ... for moves [..., 4, 4]."""
    cosine = (np.trace(move_44[..., :3, :3], axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def rotation_of(quaternion: Sequence[float]) -> np.ndarray:
    """[3,3] of (w, x, y, z), which need not have length 1. Errors (ValueError): of no length, or not four numbers."""
    w, x, y, z = np.array(quaternion, dtype=np.float64)
    length = w * w + x * x + y * y + z * z
    if not np.isfinite(length) or length == 0:
        raise ValueError(f"{list(quaternion)} is no rotation")
    double = np.array(
        [
            [y * y + z * z, z * w - x * y, -x * z - y * w],
            [-x * y - z * w, x * x + z * z, x * w - y * z],
            [y * w - x * z, -y * z - x * w, x * x + y * y],
        ]
    )
    return np.eye(3) - 2 / length * double


def angle_names(bounds: Sequence[float]) -> list[str]:
    """The ranges of angles by name. Errors: fewer than two bounds, or bounds that do not rise."""
    if len(bounds) < 2 or any(low >= high for low, high in pairwise(bounds)):
        raise UserError(f"angles = {list(bounds)}: not bounds that rise", where="data.options", fix="For example: [0, 30, 60].")
    return [f"{low:g} to {high:g} degrees" for low, high in pairwise(bounds)]


def angle_group(degrees: float, bounds: Sequence[float], id: str, where: object) -> int:
    """Which range an angle is in; the last includes its upper bound. Errors: an angle in none."""
    group = int(np.searchsorted(bounds, degrees, side="right")) - 1
    if degrees == bounds[-1]:
        return len(bounds) - 2
    if not 0 <= group < len(bounds) - 1:
        fix = "Set data.options.angles so that they cover it."
        raise UserError(f"the views of {id} turn by {degrees:.1f} degrees, which is in no range", where=where, fix=fix)
    return group


def match_errors(
    first_k3: np.ndarray, second_k3: np.ndarray, move_44: np.ndarray, focal: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """(meters, pixels) between matched points, float64 [k], the first moved to the second's camera; pixels in the second image.

    The principal point cancels in the difference of two places of one image. A depth below 1e-9 m counts as that, as in
    mbanani/probe3d a1f1464 (evals/utils/correspondence.py:198-201).
    """
    moved_k3 = first_k3 @ move_44[:3, :3].T + move_44[:3, 3]
    seen_2k2 = [points_k3[:, :2] / np.maximum(points_k3[:, 2:], 1e-9) * np.array(focal) for points_k3 in (moved_k3, second_k3)]
    return np.linalg.norm(moved_k3 - second_k3, axis=1), np.linalg.norm(seen_2k2[0] - seen_2k2[1], axis=1)
