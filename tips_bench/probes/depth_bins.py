"""Depth as the mean of even bins, weighted by a linear head's outputs (AdaBins' linear normalisation; Bhat et al., CVPR 2021).

    depth = sum_c (max(z_c, 0) + floor) d_c / sum_c (max(z_c, 0) + floor),      z = W x + b

Published heads enlarge the features first, by `factor`; the linear map commutes with that, so the outputs at patch resolution are
enlarged instead. With C = 256 bins they are the large array: they exist for one image and one head at a time, and again for the gradient.

Axes: B batch, S heads, C bins, h w token grid, H W pixels, N windows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.geometry import Kind, interpolation
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.network_head import expected_depth


@dataclass(frozen=True)
class Bins:
    """depths: of the first and the last bin, in metres. floor: added to every bin's weight. factor: enlargement of the token grid."""

    depths: tuple[float, float]
    floor: float
    factor: int

    def depth(self, logits_BSChw: Tensor) -> Tensor:
        """[B,S,h*factor,w*factor] metres."""
        depth: Tensor = _ExpectedDepth.apply(logits_BSChw, self)
        return depth

    def enlarged(self, logits_Chw: Tensor) -> Tensor:
        """[C,h*factor,w*factor], bilinearly, as torch's interpolate without aligned corners."""
        return self._rows(logits_Chw.shape[-2], logits_Chw) @ logits_Chw @ self._rows(logits_Chw.shape[-1], logits_Chw).T

    def shrunk(self, gradient_CHW: Tensor) -> Tensor:
        """[C,h,w]: what `enlarged` gives back to its input."""
        height, width = gradient_CHW.shape[-2] // self.factor, gradient_CHW.shape[-1] // self.factor
        return self._rows(height, gradient_CHW).T @ gradient_CHW @ self._rows(width, gradient_CHW)

    def _rows(self, tokens: int, like: Tensor) -> Tensor:
        return _matrix(tokens, self.factor, like.device, like.dtype)


@functools.lru_cache(maxsize=32)
def _matrix(tokens: int, factor: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Made once on a device: it is used for every image and head."""
    return interpolation(tokens, tokens * factor).to(device, dtype)


class _ExpectedDepth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_BSChw: Tensor, bins: Bins) -> Tensor:
        ctx.save_for_backward(logits_BSChw)
        ctx.bins = bins
        depths = [
            [expected_depth(bins.enlarged(logits_Chw)[None], bins.depths, bins.floor)[0, 0] for logits_Chw in logits_SChw]
            for logits_SChw in logits_BSChw
        ]
        return torch.stack([torch.stack(depths_S) for depths_S in depths])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (logits_BSChw,) = ctx.saved_tensors
        bins: Bins = ctx.bins
        like = {"device": logits_BSChw.device, "dtype": logits_BSChw.dtype}
        centers_C11 = torch.linspace(*bins.depths, logits_BSChw.shape[2], **like)[:, None, None]
        found = torch.empty_like(logits_BSChw)
        for image, gradient_SHW in enumerate(gradients[0]):
            for head, gradient_HW in enumerate(gradient_SHW):
                enlarged_CHW = bins.enlarged(logits_BSChw[image, head])
                weights_CHW = enlarged_CHW.relu() + bins.floor
                total_HW = weights_CHW.sum(0)
                depth_HW = (weights_CHW * centers_C11).sum(0) / total_HW
                slope_CHW = (centers_C11 - depth_HW) * (gradient_HW / total_HW) * (enlarged_CHW > 0)
                found[image, head] = bins.shrunk(slope_CHW)
        return found, None


@dataclass(frozen=True)
class BinsHead:
    """A linear head whose outputs are weights of bins."""

    linear: LinearHead
    bins: Bins
    interpolation: ClassVar[Kind] = "bilinear"

    @torch.no_grad()
    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,1,h*factor,w*factor] metres in float32, on the features' device."""
        return self.bins.depth(self.linear(features_NhwD)[:, None])

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        linear, bins = self.linear, self.bins
        arrays = {"weight": linear.weight_CD.numpy(), "bias": linear.bias_C.numpy(), "depths": np.array(bins.depths)}
        save_npz(path, floor=np.array(bins.floor), factor=np.array(bins.factor), **arrays)

    @classmethod
    def load(cls, path: Path) -> BinsHead:
        """Read what `save` wrote. Errors: a broken file."""

        def bins(data: Any) -> Bins:
            first, last = data["depths"].tolist()
            return Bins((first, last), float(data["floor"]), int(data["factor"]))

        return cls(LinearHead.load(path), read_npz(path, "probe", bins))
