"""Depth and normals of photos by a linear map of patch features, fitted on generated rooms at first use and then kept on the disk.

    minimise  mean_p |W x_p + b - y_p|^2 + penalty |W|^2

x_p: a patch's feature, standardized; y_p: the mean depth in metres and the mean normal of its pixels. The penalty is the one with the least
mean error of depth on rooms that are held out; that error is told on the page. It says nothing about photos, which no fit has seen.

Axes: h w token grid, D feature, N patches, H W pixels of a room; 4: depth, then x y z of the normal in the camera's frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.npz import read_npz, save_npz
from tips_bench.progress import bar
from tips_bench.rooms.generate import VERSION, room

SEED, SIDE = 0, 224
TRAIN, VAL = 48, 16  # rooms, one picture each
PENALTIES = tuple(10.0**power for power in range(1, -6, -1))

Encode = Callable[[np.ndarray], np.ndarray]  # uint8 image_HW3 -> features_hwD


@dataclass(frozen=True)
class SurfaceHead:
    """weight_D4 and bias_4 of standardized features; depth_error: mean absolute error on held-out rooms, in metres."""

    mean_D: np.ndarray
    deviation_D: np.ndarray
    weight_D4: np.ndarray
    bias_4: np.ndarray
    depth_error: float

    def __call__(self, features_hwD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(depth_hw in metres, at least 0; normals_hw3 of length 1)."""
        found_hw4 = (features_hwD - self.mean_D) / self.deviation_D @ self.weight_D4 + self.bias_4
        normals_hw3 = found_hw4[..., 1:]
        lengths_hw1 = np.linalg.norm(normals_hw3, axis=-1, keepdims=True)
        return found_hw4[..., 0].clip(min=0), normals_hw3 / np.maximum(lengths_hw1, 1e-12)


def surface_head(encode: Encode, identity: str, folder: Path) -> SurfaceHead:
    """The head for some features: from the folder if it is there, otherwise fitted and written there.

    identity: all that decides the features. A file that is broken is written anew.
    """
    path = folder / f"{digest(identity, VERSION, SEED, SIDE, TRAIN, VAL, PENALTIES)[:32]}.npz"
    if path.is_file():
        try:
            return read_npz(path, "head", _read)
        except UserError:
            path.unlink(missing_ok=True)
    head = fit(list(_patches(encode, "train", TRAIN)), list(_patches(encode, "val", VAL)))
    save_npz(path, **asdict(head))
    return head


def _read(data: Any) -> SurfaceHead:
    return SurfaceHead(data["mean_D"], data["deviation_D"], data["weight_D4"], data["bias_4"], float(data["depth_error"]))


def fit(train: list[tuple[np.ndarray, np.ndarray]], held_out: list[tuple[np.ndarray, np.ndarray]]) -> SurfaceHead:
    """Least squares by the penalty that does best on what is held out. Each: (features_ND, targets_N4) of some patches."""
    features_ND, targets_N4 = (np.concatenate(parts).astype(np.float64) for parts in zip(*train, strict=True))
    mean_D, deviation_D = features_ND.mean(0), np.maximum(features_ND.std(0), 1e-8)
    bias_4 = targets_N4.mean(0)
    scaled_ND = (features_ND - mean_D) / deviation_D
    eigenvalues_D, basis_DD = np.linalg.eigh(scaled_ND.T @ scaled_ND / len(scaled_ND))
    rotated_D4 = basis_DD.T @ (scaled_ND.T @ (targets_N4 - bias_4)) / len(scaled_ND)

    def head(penalty: float) -> SurfaceHead:
        weight_D4 = basis_DD @ (rotated_D4 / (eigenvalues_D.clip(min=0) + penalty)[:, None])
        found = SurfaceHead(mean_D, deviation_D, weight_D4, bias_4, 0.0)
        wrong = np.concatenate([np.abs(found(own_ND)[0] - own_N4[:, 0]) for own_ND, own_N4 in held_out])
        return SurfaceHead(mean_D, deviation_D, weight_D4, bias_4, float(wrong.mean()))

    return min((head(penalty) for penalty in PENALTIES), key=lambda found: found.depth_error)


def _patches(encode: Encode, split: str, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(features_ND, targets_N4) of each room's picture, of patches that show something."""
    with bar(f"rooms, {split}", number) as advance:
        for place in range(number):
            (frame,) = room(SEED, split, place, frames=1, size=SIDE).frames
            features_hwD = encode(frame.image_HW3)
            targets_HW4 = np.concatenate([frame.depth_HW[..., None], frame.normals_HW3], -1)
            targets_4HW = torch.from_numpy(targets_HW4).float().permute(2, 0, 1)
            targets_4hw = F.adaptive_avg_pool2d(targets_4HW, features_hwD.shape[:2])
            seen_1hw = F.adaptive_avg_pool2d((targets_4HW[:1] > 0).float(), features_hwD.shape[:2])
            seen_N = seen_1hw[0].flatten().numpy() == 1
            yield features_hwD.reshape(-1, features_hwD.shape[-1])[seen_N], targets_4hw.flatten(1).T.numpy()[seen_N]
            advance()
