"""From the token grid to pixels as two small matrices.

Bilinear interpolation is separable and linear, so logits at patch resolution become logits at any pixel size through
`rows_Hh @ logits_Chw @ columns_Ww.T`. Padding and a second resize (network size to original size) are composed into the
same two matrices, and the classes x pixels array exists only a few rows at a time.

Axes: C classes, h w token grid, H W pixels of the output, S heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK_ELEMENTS = 1 << 22


@lru_cache(maxsize=256)
def interpolation(source: int, target: int) -> Tensor:
    """[target, source] matrix of bilinear interpolation with half-pixel centres (align_corners=False), as torch defines it."""
    if source == target:
        return torch.eye(source)
    return F.interpolate(torch.eye(source)[:, None], target, mode="linear", align_corners=False)[:, 0].T.contiguous()


@lru_cache(maxsize=256)
def _axis(tokens: int, patch: int, before: int, after: int, inner: int, outer: int) -> Tensor:
    if before or after:
        network = interpolation(tokens, tokens * patch)[before : tokens * patch - after]
    else:
        network = interpolation(tokens, inner)
    return network if inner == outer else interpolation(inner, outer) @ network


@dataclass(frozen=True)
class Upsampling:
    """Token grid -> output pixels. rows_Hh, columns_Ww: interpolation weights along each axis."""

    rows_Hh: Tensor
    columns_Ww: Tensor

    @classmethod
    def of(
        cls,
        grid: tuple[int, int],
        patch_size: int,
        padding: tuple[int, int, int, int],
        inner: tuple[int, int],
        outer: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> Upsampling:
        """grid: (h, w) tokens. padding: (left, top, right, bottom) pixels. inner: the network input before padding. outer: the output."""
        left, top, right, bottom = padding
        rows = _axis(grid[0], patch_size, top, bottom, inner[0], outer[0])
        columns = _axis(grid[1], patch_size, left, right, inner[1], outer[1])
        return cls(rows.to(device), columns.to(device))

    def __call__(self, logits_Chw: Tensor) -> Tensor:
        """[..., C, H, W] in float32."""
        return self.rows_Hh @ (logits_Chw.float() @ self.columns_Ww.T)

    def row_chunks(self, logits_Chw: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(rows, [..., C, rows, W]) pieces of at most about CHUNK_ELEMENTS values."""
        wide_ChW = logits_Chw.float() @ self.columns_Ww.T
        height = self.rows_Hh.shape[0]
        step = max(1, CHUNK_ELEMENTS // (wide_ChW.numel() // wide_ChW.shape[-2]))
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            yield rows, self.rows_Hh[rows] @ wide_ChW

    def argmax(self, logits_Chw: Tensor) -> Tensor:
        """[..., H, W] uint8: the class with the greatest upsampled logit, the lowest index on a tie."""
        pieces = [chunk.argmax(-3).to(torch.uint8) for _, chunk in self.row_chunks(logits_Chw)]
        return torch.cat(pieces, -2)
