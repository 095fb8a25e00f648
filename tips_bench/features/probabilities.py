"""Windows whose class scores pass through a softmax before they are averaged.

A softmax does not commute with interpolation, so `geometry.Upsampling` cannot fold the windows into two matrices. Here each window's
scores are interpolated to its pixels and normalised over classes there; probabilities are averaged where windows overlap and resized
to the output. Only a few output rows exist at a time.

Axes: N windows, C classes, h w token grid, H W pixels of the output, I pixel rows and J pixel columns of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.features.geometry import CHUNK_ELEMENTS, Windows, interpolation


@dataclass(frozen=True)
class Probabilities:
    """rows_ih, columns_jw: tokens -> pixels of a window. rows_HI: rows of the input -> rows of the output, which is `width` wide.

    cover_IJ: windows over a pixel.
    """

    windows: Windows
    rows_ih: Tensor
    columns_jw: Tensor
    rows_HI: Tensor
    width: int
    cover_IJ: Tensor

    @classmethod
    def of(
        cls,
        grid: tuple[int, int],
        padding: tuple[int, int, int, int],
        windows: Windows,
        outer: tuple[int, int],
        device: torch.device | str = "cpu",
    ) -> Probabilities:
        """As `Upsampling.of`. grid: (h, w) tokens of a window. padding: (left, top, right, bottom) pixels around it. outer: output size."""
        left, top, right, bottom = padding
        height, width = windows.size
        cover_IJ = torch.zeros(windows.inner)
        for y in windows.tops:
            for x in windows.lefts:
                cover_IJ[y : y + height, x : x + width] += 1
        return cls(
            windows,
            interpolation(grid[0], top + height + bottom)[top : top + height].to(device),
            interpolation(grid[1], left + width + right)[left : left + width].to(device),
            interpolation(windows.inner[0], outer[0]).to(device),
            outer[1],
            cover_IJ.to(device),
        )

    def row_chunks(self, scores_NChw: Tensor) -> Iterator[Tensor]:
        """[C, rows, W] pieces of about CHUNK_ELEMENTS values, from the top."""
        wide_NChj = scores_NChw.float() @ self.columns_jw.T
        height, classes = self.rows_HI.shape[0], scores_NChw.shape[1]
        widest = max(self.width, self.windows.inner[1])
        step = max(1, CHUNK_ELEMENTS.get(wide_NChj.device.type, CHUNK_ELEMENTS["cpu"]) // (classes * widest))
        for start in range(0, height, step):
            weights = self.rows_HI[start : start + step]
            used = torch.nonzero(weights.any(0))[:, 0]
            first, last = int(used[0]), int(used[-1]) + 1
            mean_1CiJ = self._mean(wide_NChj, first, last)[None]
            # Two columns make one, which torch's own function knows and a matrix of all columns does not.
            mean_1CiW = F.interpolate(mean_1CiJ, (last - first, self.width), mode="bilinear", align_corners=False)
            yield weights[:, first:last] @ mean_1CiW[0]

    def _mean(self, wide_NChj: Tensor, first: int, last: int) -> Tensor:
        """[C, last - first, J]: the mean probabilities of some rows of the input."""
        total_CiJ = wide_NChj.new_zeros(wide_NChj.shape[1], last - first, self.windows.inner[1])
        height, width = self.windows.size
        corners = [(top, left) for top in self.windows.tops for left in self.windows.lefts]
        for (top, left), wide_Chj in zip(corners, wide_NChj, strict=True):
            low, high = max(first, top), min(last, top + height)
            if low < high:
                scores_Cij = self.rows_ih[low - top : high - top] @ wide_Chj
                total_CiJ[:, low - first : high - first, left : left + width] += scores_Cij.softmax(0)
        return total_CiJ / self.cover_IJ[first:last]
