"""Sums over patches from which any linear least-squares fit follows: one pass over the images, no features kept.

A patch's target is the mean of its known pixels, its weight their share of its area: least squares over patches, so weighted, is
least squares over pixels that are predicted as their patch is. Sums are float64 and added image by image in the order of the images,
so neither the batch size nor a restart changes a bit.

Axes: P patches of an image, D feature, T values of a pixel, H W pixels, G groups of images that are summed apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.patch_labels import patch_of


@dataclass(frozen=True)
class PatchTargets:
    """Of the patches of one image. weight_P: known pixels as a share of the patch's area. mean_PT: their mean, 0 where there are none.

    squares_T: weighted sum over patches of the pixels' mean squares.
    """

    weight_P: np.ndarray
    mean_PT: np.ndarray
    squares_T: np.ndarray


def patch_targets(
    values_THW: np.ndarray, known_HW: np.ndarray, grid: tuple[int, int], inner: tuple[int, int], padding: tuple[int, int, int, int]
) -> PatchTargets:
    """Each pixel belongs to the patch that its centre falls into. grid: (h, w). inner: the network input before padding, in pixels.

    padding: (left, top, right, bottom). All in float64.
    """
    left, top, right, bottom = padding
    rows_H = patch_of(known_HW.shape[0], grid[0], inner[0], top, bottom)
    columns_W = patch_of(known_HW.shape[1], grid[1], inner[1], left, right)
    patches = grid[0] * grid[1]
    area_P = np.outer(np.bincount(rows_H, minlength=grid[0]), np.bincount(columns_W, minlength=grid[1])).ravel()
    patch_V = (rows_H[:, None] * grid[1] + columns_W)[known_HW]
    known_P = np.bincount(patch_V, minlength=patches)
    values_TV = values_THW[:, known_HW].astype(np.float64)
    sums_PT = np.stack([np.bincount(patch_V, values_V, patches) for values_V in values_TV], axis=1)
    squares_PT = np.stack([np.bincount(patch_V, values_V**2, patches) for values_V in values_TV], axis=1)
    safe_area_P1 = np.maximum(area_P, 1)[:, None]
    return PatchTargets(known_P / safe_area_P1[:, 0], sums_PT / np.maximum(known_P, 1)[:, None], (squares_PT / safe_area_P1).sum(0))


@dataclass
class Moments:
    """Sums over weighted patches, float64 on the features' device.

    weight: of all patches. x_D, xx_DD: of features and their products; y_T, yy_T: of targets and pixels' squares; xy_DT: of products.
    """

    weight: float
    x_D: Tensor
    xx_DD: Tensor
    y_T: Tensor
    yy_T: Tensor
    xy_DT: Tensor

    @classmethod
    def zero(cls, dim: int, values: int, device: torch.device) -> Moments:
        """The statistics of zero patches: all sums are zero."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64, device=device)

        return cls(0.0, zeros(dim), zeros(dim, dim), zeros(values), zeros(values), zeros(dim, values))

    def add(self, features_PD: Tensor, targets: PatchTargets) -> None:
        """One image."""
        shown_P = targets.weight_P > 0
        if not shown_P.any():
            return
        device = self.x_D.device
        weight_P, mean_PT = (torch.from_numpy(array[shown_P]).to(device) for array in (targets.weight_P, targets.mean_PT))
        root_P1 = weight_P.sqrt()[:, None]
        rooted_PD = features_PD[torch.from_numpy(shown_P).to(features_PD.device)].to(device, torch.float64) * root_P1
        self.weight += float(weight_P.sum())
        self.x_D += (rooted_PD * root_P1).sum(0)
        self.xx_DD += _gram(rooted_PD)
        self.y_T += (mean_PT * weight_P[:, None]).sum(0)
        self.yy_T += torch.from_numpy(targets.squares_T).to(device)
        self.xy_DT += rooted_PD.T @ (mean_PT * root_P1)

    def features(self) -> tuple[Tensor, Tensor]:
        """(mean_D, covariance_DD) of the features."""
        mean_D = self.x_D / self.weight
        return mean_D, self.xx_DD / self.weight - torch.outer(mean_D, mean_D)

    def __add__(self, other: Moments) -> Moments:
        return Moments(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


def _gram(rooted_PD: Tensor) -> Tensor:
    """X^T X. numpy sees that it is symmetric and computes half of it; torch does not."""
    if rooted_PD.device.type != "cpu":
        return rooted_PD.T @ rooted_PD
    array_PD = rooted_PD.numpy()
    return torch.from_numpy(array_PD.T @ array_PD)


@dataclass
class Progress:
    """Moments of G groups and how many images are in them, on disk between images."""

    path: Path
    identity: str
    done: int
    groups: list[Moments]

    @classmethod
    def resume(cls, path: Path, identity: str, start: Callable[[], list[Moments]]) -> Progress:
        """What an earlier try saved at `path` for the same identity, else `start()`. Errors: a broken file."""
        groups = start()
        if not path.is_file():
            return cls(path, identity, 0, groups)

        def done(data: Any) -> int:
            if str(data["identity"]) != identity:
                return 0
            for number, moments in enumerate(groups):
                moments.weight = float(data[f"{number}_weight"])
                for name in _ARRAYS:
                    getattr(moments, name).copy_(torch.from_numpy(data[f"{number}_{name}"]))
            return int(data["done"])

        return cls(path, identity, read_npz(path, "set of moments", done), groups)

    def save(self) -> None:
        """Write all of it as .npz, atomically."""
        arrays: dict[str, Any] = {"identity": np.array(self.identity), "done": np.array(self.done)}
        for number, moments in enumerate(self.groups):
            arrays[f"{number}_weight"] = np.array(moments.weight)
            arrays |= {f"{number}_{name}": getattr(moments, name).cpu().numpy() for name in _ARRAYS}
        save_npz(self.path, **arrays)


_ARRAYS = ("x_D", "xx_DD", "y_T", "yy_T", "xy_DT")
