"""Small sets of depth and normals on disk, and a slanted plane whose depth and normal are known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.segmentation_sets import picture
from tips_bench.data.camera_geometry import Intrinsics

CAMERA = Intrinsics(fx=40.0, fy=44.0, cx=18.5, cy=11.0, height=24, width=36)


def plane(normal: tuple[float, float, float], distance: float, camera: Intrinsics = CAMERA) -> np.ndarray:
    """depth_HW, float64 metres, of the plane normal . point = -distance; unit normal towards the camera."""
    x_W = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y_H = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    slope_HW = normal[0] * x_W[None] + normal[1] * y_H[:, None] + normal[2]
    return -distance / slope_HW


def write_pair(root: Path, id: str, kind: str, values: np.ndarray, split: str = "val", seed: int = 0) -> None:
    """One image and its stored values (uint16 depth or uint8 normals) in the plain layout."""
    image, target = root / f"images/{split}/{id}.jpg", root / f"{kind}/{split}/{id}.png"
    for path in (image, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, *values.shape[:2])).save(image)
    Image.fromarray(values).save(target)
