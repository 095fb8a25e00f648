"""Positions that mean the same in small crops and in whole images.

TIPS interpolates its table of positions to the grid of a crop: neighbours in a crop of 4 x 4 patches are then five rows of the table
apart, in a whole image of 20 x 20 patches one. A long training at many resolutions evens that out. A short one at low resolution gives
attention that knows near from far in crops alone. With `model.positions: window` a crop takes a random part of the table as it is, as if
it had been cut from a whole image, and neighbours are neighbours at both resolutions. Inference does not change.

The table then starts as waves (Vaswani et al., 2017; MAE, arXiv 2111.06377, keeps them as they are), so that what is learnt of one place
holds for others from the first step on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tips_bench.models.vision import VisionTower

_AMPLITUDE = 0.3  # beside patches, whose values vary by one
_LONGEST = 1000.0  # scale of the slowest wave


@torch.no_grad()
def waves(vision: VisionTower) -> None:
    """Sets the table of patch positions to sines and cosines of row and column, a quarter of the width each."""
    rows, columns = vision.config.position_grid
    quarter = vision.config.embed_dim // 4
    down_RD, across_CD = _waves(rows, quarter), _waves(columns, quarter)
    table_RCD = torch.cat([down_RD[:, None].expand(-1, columns, -1), across_CD[None].expand(rows, -1, -1)], dim=-1)
    vision.pos_embed[:, 1:, : 4 * quarter] = _AMPLITUDE * table_RCD.flatten(0, 1).to(vision.pos_embed)


def _waves(places: int, count: int) -> Tensor:
    """[places, 2 count]"""
    angles = torch.arange(places)[:, None] * _LONGEST ** -(torch.arange(count) / count)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
