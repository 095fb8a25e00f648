"""Patch features of RGB-D frames lifted to the points of a scan.

A point is looked up in every frame: projected by the scan's own intrinsics and the frame's pose, dropped where the depth sensor saw
something else at that place, and given the token grid's bilinear interpolation there. Its feature is the mean over the frames that
see it. The lookups of all points in a few frames are a sparse matrix (four weights a view) times the frames' tokens, so nothing of
the size points x frames x features, or pixels x features, ever exists.

Image coordinates are whole at pixel centres (`data/scans.py`); a point belongs to the pixel that they round to.

Axes: N points, F frames, V views (pairs of a point and a frame that sees it), h w token grid, D feature, H W pixels of the depth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import Strict
from tips_bench.data.scans import Camera, ScanFrames
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.open3d import import_open3d

FRAMES = 16  # whose tokens are held at once; fixed, so that the order of sums does not hang on the batch size
CHUNK_POINTS = 1 << 14


class LiftingOptions(Strict):
    """When a frame sees a point, and what a point gets that none sees.

    occlusion: how far the point's depth z may be from the sensor's d: "lexicon3d" tolerance * d, "tight" tolerance in metres.
    border: pixels along the image's edges that are not used, as a share of its width. neighbours: points that are seen, nearest to
    one that is not, whose mean feature it takes.
    """

    occlusion: Literal["lexicon3d", "tight"]
    tolerance: float = Field(gt=0)
    border: float = Field(ge=0, lt=0.5)
    neighbors: int = Field(gt=0)


@dataclass(frozen=True)
class Tokens:
    """Tokens of frames and where they lie. inner: size of the network input before padding (left, top, right, bottom), in pixels."""

    features_FhwD: Tensor
    inner: tuple[int, int]
    padding: tuple[int, int, int, int]

    def coordinates(self, x_V: Tensor, y_V: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Token coordinates, whole at the middle of a patch, of image coordinates in an image of size (height, width)."""
        left, top, right, bottom = self.padding
        rows, columns = self.features_FhwD.shape[1:3]
        height, width = self.inner
        column_V = ((x_V + 0.5) * (width / size[1]) + left) * (columns / (left + width + right)) - 0.5
        row_V = ((y_V + 0.5) * (height / size[0]) + top) * (rows / (top + height + bottom)) - 0.5
        return column_V, row_V


@dataclass(frozen=True)
class Shots:
    """Where frames were taken, and their depth. world_to_camera_F34: float64. depth_FHW: float32 metres, 0 = unknown."""

    color: Camera
    depth: Camera
    world_to_camera_F34: Tensor
    depth_FHW: Tensor

    @classmethod
    def of(cls, frames: ScanFrames, indices: list[int], depth_FHW: Tensor) -> Shots:
        """The shots of some of a scan's frames, on the depth's device."""
        inverse_F34 = np.linalg.inv(frames.poses_F44[indices])[:, :3]
        return cls(frames.color, frames.depth, torch.from_numpy(inverse_F34).to(depth_FHW.device), depth_FHW)


@dataclass(frozen=True)
class Views:
    """Pairs of a point and a frame that sees it, by point and then by frame. x_V, y_V: coordinates in the colour image."""

    point_V: Tensor
    frame_V: Tensor
    x_V: Tensor
    y_V: Tensor


@torch.inference_mode()
def views(points_N3: Tensor, shots: Shots, options: LiftingOptions) -> Views:
    """Which of the frames see which of the points. points_N3: float64."""
    ours_N4 = F.pad(points_N3, (0, 1), value=1.0)
    color_33 = _tensor(shots.color.intrinsics_33, points_N3)
    x_NF, y_NF, z_NF = (ours_N4 @ rows_F4.T for rows_F4 in (color_33 @ shots.world_to_camera_F34).unbind(1))
    x_NF /= z_NF
    y_NF /= z_NF
    height, width = shots.color.size
    cut = options.border * width
    low, right, bottom = (math.ceil(end) - 0.5 for end in (cut, width - cut, height - cut))
    inside_NF = (z_NF > 0) & (x_NF >= low) & (x_NF < right) & (y_NF >= low) & (y_NF < bottom)
    point_V, frame_V = inside_NF.nonzero(as_tuple=True)
    x_V, y_V, z_V = (values_NF[point_V, frame_V] for values_NF in (x_NF, y_NF, z_NF))
    sensed_V = _sensed(shots, frame_V, x_V, y_V)
    tolerance_V = options.tolerance * (sensed_V if options.occlusion == "lexicon3d" else torch.ones_like(sensed_V))
    kept_V = (sensed_V > 0) & ((z_V - sensed_V).abs() <= tolerance_V)
    return Views(point_V[kept_V], frame_V[kept_V], x_V[kept_V], y_V[kept_V])


def _sensed(shots: Shots, frame_V: Tensor, x_V: Tensor, y_V: Tensor) -> Tensor:
    """The sensor's depth in the direction of each view: of the pixel of the depth image that it falls into, 0 outside of it."""
    to_depth_33 = shots.depth.intrinsics_33 @ np.linalg.inv(shots.color.intrinsics_33)
    (xx, xy, x1), (yx, yy, y1), _ = to_depth_33.tolist()
    column_V = torch.floor(xx * x_V + xy * y_V + x1 + 0.5).long()
    row_V = torch.floor(yx * x_V + yy * y_V + y1 + 0.5).long()
    height, width = shots.depth.size
    inside_V = (column_V >= 0) & (column_V < width) & (row_V >= 0) & (row_V < height)
    depth_V = shots.depth_FHW[frame_V, row_V.clamp(0, height - 1), column_V.clamp(0, width - 1)]
    return torch.where(inside_V, depth_V.to(x_V.dtype), 0)


@torch.inference_mode()
def gather(tokens: Tokens, seen: Views, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """(point_U, number_U, sums_UD): each point that is seen, by how many frames, and the sum of its interpolated features.

    size: (height, width) of the colour images.
    """
    features_FhwD = tokens.features_FhwD
    rows, columns = features_FhwD.shape[1:3]
    column_V, row_V = tokens.coordinates(seen.x_V, seen.y_V, size)
    column_V, row_V = column_V.clamp(0, columns - 1), row_V.clamp(0, rows - 1)
    left_V, top_V = column_V.floor(), row_V.floor()
    across_V, down_V = column_V - left_V, row_V - top_V
    right_V, bottom_V = (left_V + 1).clamp(max=columns - 1), (top_V + 1).clamp(max=rows - 1)
    weight_V4 = torch.stack([(1 - down_V) * (1 - across_V), (1 - down_V) * across_V, down_V * (1 - across_V), down_V * across_V], 1)
    place_V4 = torch.stack(
        [top_V * columns + left_V, top_V * columns + right_V, bottom_V * columns + left_V, bottom_V * columns + right_V], 1
    )
    token_V4 = place_V4.long() + (seen.frame_V * (rows * columns))[:, None]
    point_U, number_U = torch.unique_consecutive(seen.point_V, return_counts=True)
    offset_U = 4 * (number_U.cumsum(0) - number_U)
    flat_TD = features_FhwD.flatten(0, 2)
    weights = weight_V4.to(flat_TD.dtype).flatten()
    sums_UD = F.embedding_bag(token_V4.flatten(), flat_TD, offset_U, mode="sum", per_sample_weights=weights)
    return point_U, number_U, sums_UD


@dataclass
class Sums:
    """Sums of features over the frames so far. number_N: frames that see each point."""

    features_ND: Tensor
    number_N: Tensor

    @classmethod
    def of(cls, points: int, dim: int, device: torch.device | str = "cpu") -> Sums:
        """Zeros."""
        return cls(torch.zeros(points, dim, device=device), torch.zeros(points, dtype=torch.int64, device=device))

    @torch.inference_mode()
    def add(self, points_N3: Tensor, shots: Shots, tokens: Tokens, options: LiftingOptions) -> None:
        """Add what a few frames see of all points, CHUNK_POINTS at a time. points_N3: float64."""
        for start in range(0, len(points_N3), CHUNK_POINTS):
            seen = views(points_N3[start : start + CHUNK_POINTS], shots, options)
            if len(seen.point_V):
                point_U, number_U, sums_UD = gather(tokens, seen, shots.color.size)
                self.features_ND.index_add_(0, point_U + start, sums_UD)
                self.number_N.index_add_(0, point_U + start, number_U)

    @torch.inference_mode()
    def mean(self, points_N3: np.ndarray, neighbors: int, *, where: object = None) -> Tensor:
        """features_ND, in place: the mean over each point's frames; a point without one takes the mean of its nearest points with one.

        where: named in errors. Errors: no point was seen.
        """
        seen_N = self.number_N > 0
        if not seen_N.any():
            fix = "Poses, intrinsics or depth do not fit the points; `tips-bench data check` looks at them."
            raise UserError("no frame sees any point", where=where, fix=fix)
        self.features_ND /= self.number_N.clamp(min=1)[:, None]
        unseen_U = torch.nonzero(~seen_N)[:, 0]
        if len(unseen_U):
            known_S = torch.nonzero(seen_N)[:, 0]
            near_Uk = known_S[torch.from_numpy(nearest(points_N3, seen_N.cpu().numpy(), neighbors)).to(known_S.device)]
            for start in range(0, len(unseen_U), CHUNK_POINTS):
                part = slice(start, start + CHUNK_POINTS)
                self.features_ND[unseen_U[part]] = self.features_ND[near_Uk[part]].mean(1)
        return self.features_ND


def nearest(points_N3: np.ndarray, seen_N: np.ndarray, neighbors: int) -> np.ndarray:
    """[unseen points, k] positions among the seen points of the nearest ones, k = min(neighbours, seen points), with Open3D."""
    o3d = import_open3d()
    search = o3d.core.nns.NearestNeighborSearch(o3d.core.Tensor.from_numpy(np.ascontiguousarray(points_N3[seen_N], dtype=np.float32)))
    search.knn_index()
    queries = o3d.core.Tensor.from_numpy(np.ascontiguousarray(points_N3[~seen_N], dtype=np.float32))
    found, _ = search.knn_search(queries, min(neighbors, int(seen_N.sum())))
    return found.numpy().astype(np.int64)


@dataclass(frozen=True)
class Lifted:
    """features_ND: float32, on the encoder's device. number_N: frames that see each point, 0 where neighbours gave the feature."""

    features_ND: Tensor
    number_N: Tensor


def lift(points_N3: np.ndarray, frames: ScanFrames, extractor: Extractor, options: LiftingOptions, *, where: object = None) -> Lifted:
    """Features of all points of a scan. where: named in errors.

    Errors: no frame with a pose, none that sees a point, a protocol that crops images.
    """
    if extractor.image.crops:
        raise UserError("image: points outside the crop get no feature", fix="Use shape aspect or square, without crop and cut.")
    if not len(frames):
        raise UserError(f"none of its {frames.skipped} frames has a pose", where=where, fix="Take the scan out of the list.")
    device = extractor.encoder.device
    sums, points = Sums.of(len(points_N3), extractor.dim, device), torch.from_numpy(points_N3).to(device, torch.float64)
    for indices, depth_FHW, tokens in _grouped(frames, extractor):
        sums.add(points, Shots.of(frames, indices, depth_FHW.to(device)), tokens, options)
    return Lifted(sums.mean(points_N3, options.neighbors, where=where), sums.number_N)


def _grouped(frames: ScanFrames, extractor: Extractor) -> Iterator[tuple[list[int], Tensor, Tokens]]:
    """(indices, depth_FHW, tokens) of FRAMES frames at a time, in order."""
    held: list[tuple[int, np.ndarray, Tensor]] = []
    inner, padding = extractor.inner_size(*frames.size(0)), (0, 0, 0, 0)

    def group() -> tuple[list[int], Tensor, Tokens]:
        now, held[:FRAMES] = held[:FRAMES], []
        indices, depths, features = zip(*now, strict=True)
        return list(indices), torch.from_numpy(np.stack(depths)), Tokens(torch.stack(features).float(), inner, padding)

    for batch, samples, pixels_B3HW in extractor.batches(frames, range(len(frames))):
        found = extractor.encode(pixels_B3HW)
        padding = found.padding
        held += zip(batch, (sample.depth_HW for sample in samples), found.features_BhwD, strict=True)
        while len(held) >= FRAMES:
            yield group()
    if held:
        yield group()


def _tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device, like.dtype)
