"""The DPT decoder of TIPSv2: four layers of a frozen image tower -> a map of eight times their token grid.

Each layer's patch features are read out with its global token, projected, and brought to four, two, one and half times the token
grid; the maps are fused from the coarsest on, each fusion doubling the size. Parameters bear the names of google-deepmind/tips,
pytorch/decoders.py (commit 4db271d), which this follows: tanh GELU, corners aligned where a fusion doubles the size, not where sizes
are matched. Its 1x1 convolution after the doubling is applied before it, where it costs a quarter: the two commute.

DPT: R. Ranftl, A. Bochkovskiy, V. Koltun, Vision Transformers for Dense Prediction, ICCV 2021.
Axes: B batch, h w token grid, D feature of a layer, E channels of a map, F channels of the fusion, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS = 4
Layer = tuple[Tensor | None, Tensor]  # (global_BD, patches_BhwD)


@dataclass(frozen=True, kw_only=True)
class DptConfig:
    """embed_dim: D. outputs: C. reassembled: E of each layer. channels: F. relu: between the last convolution and the head.

    readout: the global token is read; False for encoders without one. The released depth heads are run with the ReLU by
    google/tipsv2-*-dpt and transformers, without it by google-deepmind/tips.
    """

    embed_dim: int
    outputs: int
    reassembled: tuple[int, ...]
    channels: int = 256
    relu: bool = False
    readout: bool = True


def published_widths(embed_dim: int) -> tuple[int, ...]:
    """E of each layer in the released heads: D/8, D/4, D/2 and D."""
    return tuple(embed_dim // part for part in (8, 4, 2, 1))


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, map_BFhw: Tensor) -> Tensor:
        return map_BFhw + self.conv2(F.relu(self.conv1(F.relu(map_BFhw))))


class Fusion(nn.Module):
    """Adds the map of a finer layer where there is one, refines, doubles the size."""

    def __init__(self, channels: int, *, finer: bool) -> None:
        super().__init__()
        if finer:
            self.residual_unit = ResidualUnit(channels)
        self.main_unit = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, map_BFhw: Tensor, finer_BFhw: Tensor | None = None) -> Tensor:
        if finer_BFhw is not None:
            if finer_BFhw.shape != map_BFhw.shape:  # a grid of an odd size, halved and doubled, is one larger
                finer_BFhw = F.interpolate(finer_BFhw, map_BFhw.shape[2:], mode="bilinear", align_corners=False)
            map_BFhw = map_BFhw + self.residual_unit(finer_BFhw)
        map_BFhw = self.out_conv(self.main_unit(map_BFhw))
        return F.interpolate(map_BFhw, scale_factor=2, mode="bilinear", align_corners=True)


class Reassembling(nn.Module):
    """Token grids of four layers -> maps of four sizes."""

    def __init__(self, embed_dim: int, channels: Sequence[int], *, readout: bool) -> None:
        super().__init__()
        self.readout_projects = nn.ModuleList(nn.Linear(2 * embed_dim, embed_dim) for _ in channels if readout)
        self.out_projections = nn.ModuleList(nn.Conv2d(embed_dim, width, 1) for width in channels)
        first, second, _, last = channels
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(first, first, 4, stride=4),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(last, last, 3, stride=2, padding=1),
            ]
        )

    def forward(self, layers: Sequence[Layer]) -> list[Tensor]:
        return [self._map(index, *layer) for index, layer in enumerate(layers)]

    def _map(self, index: int, global_BD: Tensor | None, patches_BhwD: Tensor) -> Tensor:
        if global_BD is not None:
            linear, dim = self.readout_projects[index], global_BD.shape[-1]
            assert isinstance(linear, nn.Linear)
            # The global token is the same beside every patch: its half of the map is applied once.
            once_B11D = F.linear(global_BD, linear.weight[:, dim:], linear.bias)[:, None, None]
            patches_BhwD = F.gelu(F.linear(patches_BhwD, linear.weight[:, :dim]) + once_B11D, approximate="tanh")
        map_BEhw: Tensor = self.resize_layers[index](self.out_projections[index](patches_BhwD.permute(0, 3, 1, 2)))
        return map_BEhw


class DptTrunk(nn.Module):
    """Four layers -> [B,F,8h,8w]; a grid of an odd size counts as one larger."""

    def __init__(self, config: DptConfig) -> None:
        super().__init__()
        self.relu = config.relu
        self.reassemble = Reassembling(config.embed_dim, config.reassembled, readout=config.readout)
        self.convs = nn.ModuleList(nn.Conv2d(width, config.channels, 3, padding=1, bias=False) for width in config.reassembled)
        self.fusion_blocks = nn.ModuleList(Fusion(config.channels, finer=index > 0) for index in range(LAYERS))
        self.project = nn.Conv2d(config.channels, config.channels, 3, padding=1)

    def forward(self, layers: Sequence[Layer]) -> Tensor:
        maps = [conv(map_BEhw) for conv, map_BEhw in zip(self.convs, self.reassemble(layers), strict=True)]
        fused_BFhw = self.fusion_blocks[0](maps[-1])
        for block, finer_BFhw in zip(list(self.fusion_blocks)[1:], maps[-2::-1], strict=True):
            fused_BFhw = block(fused_BFhw, finer_BFhw)
        fused_BFhw = self.project(fused_BFhw)
        return F.relu(fused_BFhw) if self.relu else fused_BFhw


class DptDecoder(nn.Module):
    """The trunk and a linear head. config: what it was built with."""

    def __init__(self, config: DptConfig) -> None:
        super().__init__()
        self.config = config
        self.dpt = DptTrunk(config)
        self.head = nn.Linear(config.channels, config.outputs)

    def forward(self, layers: Sequence[Layer]) -> Tensor:
        """[B,C,8h,8w] raw outputs. layers: four, from the first on, after the final norm; without global tokens where none is read."""
        map_BFhw = self.dpt(layers)
        head_CF11 = self.head.weight[:, :, None, None]
        return torch.conv2d(map_BFhw, head_CF11, self.head.bias)
