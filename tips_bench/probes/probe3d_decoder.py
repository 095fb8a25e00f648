"""The multi-layer head of Probe3D: four layers of equal grids -> a map of eight times their size.

Layers are projected to one width, doubled in size, and fused from the last to the first; nothing is read at another resolution, so it
shares with DPT little but the name. Sizes are changed by repeating cells, as torch's `interpolate` does when no mode is given, or
bilinearly with aligned corners, as the code does since 1 December 2025. The last doubling is left to the caller: where cells are
repeated, what is made of the outputs of a cell may be made before it, on a quarter of the values.

Source: probe3d (El Banani et al., CVPR 2024), evals/models/probes.py, class DPT: mbanani/probe3d 1fff822, lines 132-208, where cells are
repeated, and a1f1464, lines 198-210.
Axes: B batch, h w token grid, D feature of a layer, E channels, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualUnit(nn.Module):
    """Two convolutions, a ReLU after each, and the input added."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, map_BEhw: Tensor) -> Tensor:
        return map_BEhw + F.relu(self.conv2(F.relu(self.conv1(map_BEhw))))


def enlarge(map_BEhw: Tensor, factor: int, aligned: bool) -> Tensor:
    """[B,E,h*factor,w*factor]: cells repeated, or bilinearly with aligned corners."""
    if aligned:
        return F.interpolate(map_BEhw, scale_factor=factor, mode="bilinear", align_corners=True)
    return F.interpolate(map_BEhw, scale_factor=factor)


class Probe3dDecoder(nn.Module):
    """embed_dim: D, of each of the four layers. outputs: C. aligned: sizes are changed bilinearly with aligned corners."""

    def __init__(self, embed_dim: int, outputs: int, *, channels: int, kernel: int, aligned: bool = False) -> None:
        super().__init__()
        self.aligned = aligned
        self.projections = nn.ModuleList(nn.Conv2d(embed_dim, channels, 1) for _ in range(4))
        # Of the last layer there is nothing to add to.
        self.skip_units = nn.ModuleList(ResidualUnit(channels, kernel) for _ in range(3))
        self.main_units = nn.ModuleList(ResidualUnit(channels, kernel) for _ in range(4))
        self.out_conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.out_conv2 = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """[B,C,8h,8w]. layers: four patches_BhwD, from the first on."""
        maps = [project(layer.permute(0, 3, 1, 2)) for project, layer in zip(self.projections, layers, strict=True)]
        maps = [enlarge(map_BEhw, 2, self.aligned) for map_BEhw in maps]
        fused_BEhw = self.main_units[3](maps[3])
        for index in (2, 1, 0):
            fused_BEhw = self.main_units[index](self.skip_units[index](maps[index]) + fused_BEhw)
        outputs_BChw: Tensor = self.out_conv2(F.relu(self.out_conv1(enlarge(fused_BEhw, 4, self.aligned))))
        return outputs_BChw
