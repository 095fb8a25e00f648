"""Features and maps as text that a page reads: bytes in base64.

A patch's feature is scaled to a largest entry of 127 and rounded to whole numbers. The page needs no scale: a cosine does not depend on it.

Axes: h w token grid, D feature, H W cells of a map; 3: RGB.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from tips_bench.data.images import thumbnail
from tips_bench.explorer.maps import ClassMap, PatchMatches
from tips_bench.pictures.dense import normal_colors

SHOWN = 900  # longer side of a photo on the page, in pixels
QUALITY = 88  # of its JPEG file


def quantized(features_hwD: np.ndarray) -> np.ndarray:
    """[h,w,D] int8, each patch by a scale of its own."""
    largest_hw1 = np.abs(features_hwD).max(-1, keepdims=True)
    return np.rint(features_hwD * (127 / np.maximum(largest_hw1, 1e-30))).astype(np.int8)


def packed_features(features_hwD: np.ndarray, colors_hw3: np.ndarray) -> dict[str, Any]:
    """Features of a photo and its PCA colors."""
    rows, columns, dim = features_hwD.shape
    return {"rows": rows, "columns": columns, "dim": dim, "features": encoded(quantized(features_hwD)), "colors": encoded(colors_hw3)}


def packed_classes(found: ClassMap) -> dict[str, Any]:
    """A map of classes; cosines are rounded to 1/127."""
    rows, columns = found.labels_HW.shape
    cosines_HW = np.rint(found.cosines_HW * 127).clip(-127, 127).astype(np.int8)
    return {"rows": rows, "columns": columns, "labels": encoded(found.labels_HW), "cosines": encoded(cosines_HW)}


def packed_labels(labels_HW: np.ndarray) -> dict[str, Any]:
    """A map of class indices, one byte a cell."""
    rows, columns = labels_HW.shape
    return {"rows": rows, "columns": columns, "labels": encoded(labels_HW)}


def packed_depth(depth_hw: np.ndarray) -> dict[str, Any]:
    """A map of depth in metres, rounded to 1/255 of its range."""
    rows, columns = depth_hw.shape
    low, high = float(depth_hw.min()), float(depth_hw.max())
    values_hw = np.rint((depth_hw - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return {"rows": rows, "columns": columns, "values": encoded(values_hw), "low": low, "high": high}


def packed_normals(normals_hw3: np.ndarray) -> dict[str, Any]:
    """A map of normals as colors."""
    rows, columns, _ = normals_hw3.shape
    return {"rows": rows, "columns": columns, "colors": encoded(normal_colors(normals_hw3))}


def packed_matches(found: PatchMatches, most: int) -> list[list[float]]:
    """[row of the first, row of the second, cosine] of the best matches."""
    columns = zip(found.first_M[:most], found.second_M[:most], found.cosines_M[:most], strict=True)
    return [[int(first), int(second), round(float(cosine), 4)] for first, second, cosine in columns]


def encoded(values: np.ndarray) -> str:
    """The array's bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def photo_url(image_HW3: np.ndarray) -> str:
    """A photo as a data: address of a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(thumbnail(image_HW3, SHOWN)).save(file, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
