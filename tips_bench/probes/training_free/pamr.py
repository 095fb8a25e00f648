"""Pixel-adaptive mask refinement (PAMR): scores of pixels are averaged with those of neighbors of a similar color, again and again.

Araslanov and Roth (CVPR 2020); source: wangf3014/SCLIP b56bd30, pamr.py:13-147, a copy of visinf/1-stage-wseg, models/mods/pamr.py.
Neighbors are the eight at each dilation; beyond a border they are its own pixels. The weight of a neighbor is a softmax of minus the
absolute difference of normalized colors over a tenth of their standard deviation in all those places, averaged over colors.

Axes: T scores of a pixel, K neighbors, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import Strict

NEIGHBORS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
FLOOR = 1e-8  # of a tenth of the standard deviation


class Pamr(Strict):
    """steps: how often pixels are averaged. dilations: distances of neighbors along an axis, in pixels of the labels."""

    steps: int = Field(gt=0)
    dilations: list[int] = Field(min_length=1)


def refine(scores_THW: Tensor, image_3HW: Tensor, options: Pamr) -> Tensor:
    """[T,H,W] refined scores. image_3HW: normalized, of the same size."""
    weights_KHW = _weights(image_3HW, options.dilations)
    for _ in range(options.steps):
        refined_THW = torch.zeros_like(scores_THW)
        for weight_HW, shifted_THW in zip(weights_KHW, _shifted(scores_THW, options.dilations), strict=True):
            refined_THW.addcmul_(weight_HW, shifted_THW)
        scores_THW = refined_THW
    return scores_THW


def _weights(image_3HW: Tensor, dilations: Sequence[int]) -> Tensor:
    """[K,H,W]: of each neighbor, 1 in all."""
    neighbors_K3HW = torch.stack(list(_shifted(image_3HW, dilations)))
    seen_P3HW = torch.cat([neighbors_K3HW, image_3HW.expand(len(dilations), -1, -1, -1)])
    spread_3HW = FLOOR + 0.1 * seen_P3HW.std(0)
    return (-(image_3HW - neighbors_K3HW).abs() / spread_3HW).mean(1).softmax(0)


def _shifted(maps_CHW: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """[C,H,W] for each neighbor: its values at the pixel whose neighbor it is."""
    height, width = maps_CHW.shape[1:]
    for dilation in dilations:
        padded = F.pad(maps_CHW[None], [dilation] * 4, mode="replicate")[0]
        for y, x in NEIGHBORS:
            top, left = dilation * (1 + y), dilation * (1 + x)
            yield padded[:, top : top + height, left : left + width]
