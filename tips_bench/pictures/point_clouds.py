"""Pictures of labelled clouds: a view from above and aside, and a PLY for any viewer.

Axes: N points of a scan, M points that are drawn, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.data.base import IGNORE
from tips_bench.data.ply import write_vertices
from tips_bench.data.scans import Scan
from tips_bench.pictures.panels import PAPER, TILE, PcaBasis, colorize, panel

DRAWN = 60_000  # points of a scan
AZIMUTH, ELEVATION = np.radians(35), np.radians(50)
CEILING = 0.85  # of the height: what lies above would hide the room
COVER = 2.0  # pixels of all points together, as a multiple of the picture's
GAP = 1.15  # between clouds in a row, as a multiple of their width
AS_THEY_ARE = PcaBasis(np.zeros(3), np.eye(3), np.zeros(3), np.full(3, 255.0))  # shows three numbers in 0-255 as a color


@dataclass(frozen=True)
class Cloud:
    """The drawn part of a scan. drawn_M: which points of the scan. truth_M, predicted_M: uint8 class indices."""

    drawn_M: np.ndarray
    points_M3: np.ndarray
    colors_M3: np.ndarray
    truth_M: np.ndarray
    predicted_M: np.ndarray

    @classmethod
    def of(cls, scan: Scan, predicted_N: np.ndarray) -> Cloud:
        """Every k-th point, so that at most DRAWN are left."""
        drawn_M = np.arange(0, len(predicted_N), -(-len(predicted_N) // DRAWN))
        return cls(drawn_M, scan.points_N3[drawn_M], scan.colors_N3[drawn_M], scan.labels_N[drawn_M], predicted_N[drawn_M])


def seen_from_above(points_M3: np.ndarray, side: int) -> np.ndarray:
    """[side, side] which point each pixel shows, -1 for none. z is up; the uppermost part, ceilings, is left out."""
    low, high = points_M3[:, 2].min(), points_M3[:, 2].max()
    kept = np.flatnonzero(points_M3[:, 2] <= low + CEILING * (high - low))
    right_3 = np.array([np.cos(AZIMUTH), np.sin(AZIMUTH), 0.0])
    toward_3 = np.array([np.sin(AZIMUTH) * np.cos(ELEVATION), -np.cos(AZIMUTH) * np.cos(ELEVATION), np.sin(ELEVATION)])
    up_3 = np.cross(toward_3, right_3)
    across, up, near = (points_M3[kept].astype(np.float64) @ axis_3 for axis_3 in (right_3, up_3, toward_3))
    extent = max(np.ptp(across), np.ptp(up), 1e-9)
    scale = (side - 2) / extent
    column = np.rint((across - (across.min() + across.max() - extent) / 2) * scale).astype(np.int64)
    row = np.rint(((up.min() + up.max() + extent) / 2 - up) * scale).astype(np.int64)
    size = int(np.clip(round(np.sqrt(COVER * side**2 / len(kept))), 1, 4))
    down_S, aside_S = (offset.ravel() for offset in np.mgrid[:size, :size])
    order_K1 = np.argsort(near, kind="stable")[:, None]  # from far to near: the last to be drawn is the one that is seen
    shown_HW = np.full((side, side), -1)
    shown_HW[np.clip(row[order_K1] + down_S, 0, side - 1), np.clip(column[order_K1] + aside_S, 0, side - 1)] = kept[order_K1]
    return shown_HW


def cloud_panel(cloud: Cloud, pca_M3: np.ndarray, palette: Sequence[tuple[int, int, int]], classes: Sequence[str]) -> np.ndarray:
    """Cloud | truth | prediction | PCA over a legend, uint8 RGB. pca_M3: uint8."""
    shown_HW = seen_from_above(cloud.points_M3, TILE)
    nothing_HW = shown_HW < 0
    truth_HW, predicted_HW = (np.where(nothing_HW, np.uint8(IGNORE), labels_M[shown_HW]) for labels_M in (cloud.truth_M, cloud.predicted_M))
    image_HW3, pca_HW3 = (
        np.where(nothing_HW[..., None], np.array(PAPER, np.uint8), colors_M3[shown_HW]) for colors_M3 in (cloud.colors_M3, pca_M3)
    )
    return panel(image_HW3, truth_HW, predicted_HW, pca_HW3, palette=palette, classes=classes, basis=AS_THEY_ARE)


def save_cloud(cloud: Cloud, pca_M3: np.ndarray, palette: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Truth, prediction and PCA as three coloured clouds in a row along x; "label" and "predicted" hold class indices."""
    kinds = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "label", "predicted")]
    step = GAP * float(np.ptp(cloud.points_M3[:, 0]))
    parts = []
    for place, colors_M3 in enumerate((colorize(cloud.truth_M, palette), colorize(cloud.predicted_M, palette), pca_M3)):
        part = np.zeros(len(cloud.points_M3), kinds)
        for axis, values_M in zip("xyz", (cloud.points_M3 + np.array([place * step, 0, 0], np.float32)).T, strict=True):
            part[axis] = values_M
        for name, values_M in zip(("red", "green", "blue"), colors_M3.T, strict=True):
            part[name] = values_M
        part["label"], part["predicted"] = cloud.truth_M, cloud.predicted_M
        parts.append(part)
    write_vertices(np.concatenate(parts), path.with_name(f"{path.name}.ply"))
