"""From token grids to pixels as two small matrices.

Bilinear interpolation is separable and linear, so logits at patch resolution become logits at any pixel size through
`rows_Hh @ logits_Chw @ columns_Ww.T`. Padding, the averaging of overlapping windows and a second resize (network size to
original size) are composed into the same two matrices, and the classes x pixels array exists only a few rows at a time.

A whole image is one window. The windows of an image form a grid of I x J; their token grids laid side by side are the mosaic
that the matrices read. Positions follow mmsegmentation's slide inference: the last window of an axis is shifted back inside.

Axes: C classes, h w token grid (of the mosaic: I*h, J*w), H W pixels of the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import WindowCard
from tips_bench.encoders.waiting import sent

# Values held at once, by kind of device: the second-level cache of a CPU, few launches on a GPU.
CHUNK_ELEMENTS = {"cpu": 1 << 20, "cuda": 1 << 26}


Kind = Literal["nearest", "bilinear", "bicubic", "bilinear-aligned", "bicubic-aligned"]


@lru_cache(maxsize=256)
def interpolation(source: int, target: int, kind: Kind = "bilinear") -> Tensor:
    """[target, source] matrix of interpolation along an axis, as torch defines it.

    Pixels have their centers half a pixel inside (align_corners=False), or, for the kinds that end in "-aligned", the outermost centers
    of both sizes coincide (align_corners=True). "nearest" takes the value of the cell in which a pixel's center lies.
    """
    if source == target:
        return torch.eye(source)
    if kind == "nearest":
        cells = (2 * torch.arange(target) + 1) * source // (2 * target)
        return torch.eye(source)[cells]
    mode, _, aligned = kind.partition("-")
    # Both modes are separable; torch has the cubic one for two axes alone.
    wide = F.interpolate(torch.eye(source)[:, None, :, None], (target, 1), mode=mode, align_corners=bool(aligned))
    return wide[:, 0, :, 0].T.contiguous()


def window_starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """First pixels of the windows that cover an axis."""
    if window >= length:
        return (0,)
    count = -(-(length - window) // stride) + 1
    return tuple(min(index * stride, length - window) for index in range(count))


@dataclass(frozen=True)
class Windows:
    """Where an image of the network size `inner` is cut. size: of every window, in pixels."""

    inner: tuple[int, int]
    size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, inner: tuple[int, int], card: WindowCard) -> Windows:
        """As the protocol says: one window for "whole", else windows of card.window pixels every card.stride."""
        if card.window is None or card.stride is None:  # mode "whole", as WindowCard checks
            return cls(inner, inner, (0,), (0,))
        size = min(card.window, inner[0]), min(card.window, inner[1])
        return cls(inner, size, *(window_starts(length, side, card.stride) for length, side in zip(inner, size, strict=True)))

    def cut(self, pixels_3HW: Tensor) -> Tensor:
        """[I*J, 3, H, W] windows, row by row."""
        height, width = self.size
        return torch.stack([pixels_3HW[:, top : top + height, left : left + width] for top in self.tops for left in self.lefts])

    def mosaic(self, logits_NChw: Tensor) -> Tensor:
        """[C, I*h, J*w]: the windows' token grids side by side, N = I*J."""
        rows, columns = len(self.tops), len(self.lefts)
        _, classes, height, width = logits_NChw.shape
        grid = logits_NChw.reshape(rows, columns, classes, height, width)
        return grid.permute(2, 0, 3, 1, 4).reshape(classes, rows * height, columns * width)


@lru_cache(maxsize=256)
def _axis(tokens: int, before: int, after: int, size: int, starts: tuple[int, ...], inner: int, outer: int, kind: Kind) -> Tensor:
    """[outer, len(starts) * tokens]: tokens of every window -> window pixels -> their mean in the image -> output pixels."""
    padded = before + size + after
    window = interpolation(tokens, padded, kind)[before : padded - after]
    image, cover = torch.zeros(inner, len(starts), tokens), torch.zeros(inner, 1, 1)
    for index, start in enumerate(starts):
        image[start : start + size, index] = window
        cover[start : start + size] += 1
    image = (image / cover).flatten(1)
    return image if inner == outer else interpolation(inner, outer, kind) @ image


@dataclass(frozen=True)
class Upsampling:
    """Token grid, or mosaic of windows -> output pixels. rows_Hh, columns_Ww: interpolation weights along each axis, on the device.

    rows_here, columns_here: the same on the processor, which asks which tokens count and waits for no GPU to answer.
    """

    rows_Hh: Tensor
    columns_Ww: Tensor
    rows_here: Tensor
    columns_here: Tensor

    @classmethod
    def of(
        cls,
        grid: tuple[int, int],
        padding: tuple[int, int, int, int],
        windows: Windows,
        outer: tuple[int, int],
        device: torch.device | str = "cpu",
        kind: Kind = "bilinear",
    ) -> Upsampling:
        """grid: (h, w) tokens of a window. padding: (left, top, right, bottom) pixels around a window. outer: the output size."""
        left, top, right, bottom = padding
        rows = _axis(grid[0], top, bottom, windows.size[0], windows.tops, windows.inner[0], outer[0], kind)
        columns = _axis(grid[1], left, right, windows.size[1], windows.lefts, windows.inner[1], outer[1], kind)
        return cls.by(rows, columns, torch.device(device))

    @classmethod
    def by(cls, rows_Hh: Tensor, columns_Ww: Tensor, device: torch.device) -> Upsampling:
        """With these weights, which are on the processor."""
        return cls(sent(rows_Hh, device), sent(columns_Ww, device), rows_Hh, columns_Ww)

    def __call__(self, logits_Chw: Tensor) -> Tensor:
        """[..., C, H, W] in float32."""
        return self.rows_Hh @ (logits_Chw.float() @ self.columns_Ww.T)

    def bands(self, row_elements: int) -> list[tuple[slice, slice, Tensor]]:
        """(output rows, token rows, their weights) in pieces of about CHUNK_ELEMENTS values: an output row reads only a few token rows."""
        height = self.rows_Hh.shape[0]
        step = max(1, CHUNK_ELEMENTS.get(self.rows_Hh.device.type, CHUNK_ELEMENTS["cpu"]) // row_elements)
        pieces = []
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            used = torch.nonzero(self.rows_here[rows].any(0))[:, 0]
            tokens = slice(int(used[0]), int(used[-1]) + 1)
            pieces.append((rows, tokens, self.rows_Hh[rows, tokens]))
        return pieces

    def row_chunks(self, logits_Chw: Tensor) -> Iterator[Tensor]:
        """[..., C, rows, W] pieces of about CHUNK_ELEMENTS values, from the top."""
        wide_ChW = logits_Chw.float() @ self.columns_Ww.T
        for _, tokens, weights in self.bands(wide_ChW.numel() // wide_ChW.shape[-2]):
            yield weights @ wide_ChW[..., tokens, :]

    def argmax(self, logits_Chw: Tensor) -> Tensor:
        """[..., H, W] uint8: the class with the greatest upsampled logit, the lowest index on a tie."""
        row_H, column_W = _only_token(self.rows_here), _only_token(self.columns_here)
        if row_H is not None and column_W is not None:
            return greatest(logits_Chw, -3)[..., sent(row_H, logits_Chw.device)[:, None], sent(column_W, logits_Chw.device)]
        return torch.cat([greatest(chunk, -3) for chunk in self.row_chunks(logits_Chw)], -2)


def _only_token(weights_Xx: Tensor) -> Tensor | None:
    """[X]: the one token that each pixel of an axis is a copy of; None if any is a mixture."""
    most_X, token_X = weights_Xx.max(1)
    copies = (most_X == 1).all() and torch.count_nonzero(weights_Xx) == len(weights_Xx)
    return token_X if copies else None


def greatest(values: Tensor, axis: int) -> Tensor:
    """uint8: the index of the greatest value along an axis, the lowest on a tie."""
    return values.max(axis).indices.to(torch.uint8)  # on a CPU in a third of the time of `argmax`
