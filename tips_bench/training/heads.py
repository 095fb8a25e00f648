"""Projection heads: features to a point on a sphere, and its similarity to each of many learned prototypes.

Architecture: DINO (arXiv 2104.14294), appendix C, as DINOv2 has it: a GELU MLP to a bottleneck, L2 normalisation, then a weight-normed
linear map. Axes in tensor names: N rows, D feature, E bottleneck, C prototypes.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tips_bench.models.initialization import STD, seeded_fill
from tips_bench.training.recipe import HeadPart

_DINOV2_WIDTH = 2048


class ProjectionHead(nn.Module):
    """[N,D] features to [N,E] of unit length; their scores are products with `weight_CE`, which `prototypes` takes in pieces."""

    def __init__(self, dim: int, part: HeadPart) -> None:
        super().__init__()
        widths = [dim, *[part.hidden_dim] * (part.layers - 1), part.bottleneck_dim]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))
        self.prototypes = nn.Parameter(torch.empty(part.prototypes, part.bottleneck_dim))
        self.gain = nn.Parameter(torch.empty(part.prototypes))

    def init_weights(self, seed: int) -> None:
        """Sets every parameter from the seed.

        Values have DINOv2's spread in a head of its width, 2048; in a narrower one it is larger, for the norm of what comes before the
        normalisation is what gradients are divided by. Prototypes start as the weights of nn.Linear do.
        """
        seeded_fill(self, seed)
        with torch.no_grad():
            for layer in self.layers:
                assert isinstance(layer, nn.Linear)
                layer.weight.mul_(math.sqrt(_DINOV2_WIDTH / layer.in_features))
            self.prototypes.mul_(1 / math.sqrt(3 * self.prototypes.shape[1]) / STD)
            self.gain.fill_(1.0)

    def forward(self, x_ND: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            x_ND = layer(F.gelu(x_ND) if index else x_ND)
        return F.normalize(x_ND.float() if x_ND.dtype == torch.bfloat16 else x_ND, dim=-1)

    @property
    def weight_CE(self) -> Tensor:
        """Prototypes of unit length, times their gains."""
        return F.normalize(self.prototypes, dim=-1) * self.gain[:, None]
