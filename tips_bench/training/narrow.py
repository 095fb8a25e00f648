"""Initial weights of narrow towers.

A standard deviation of 0.02 suits widths of a thousand (ViT, BERT). At 192 its maps shrink what they are given: at first every image
and every text has nearly the same embedding, the contrastive loss stands at log of the batch, and Adam makes them all the same before
they can tell anything apart. Here each map keeps the variance of its input (LeCun et al., Efficient BackProp, 1998), tokens of text have
unit variance after the factor sqrt(D) that the tower gives them, and a patch of middle grey, which TIPS does not subtract, gives zero.

Attention that is still uniform adds the same vector to all patches of an image. At full strength that drowns what they show: of the
variance of patch features, a seventh was within images after 50,000 images of close-ups, and two fifths where LayerScale let a tenth of
it pass. Global tokens begin near zero and get all that they have from attention, so that they lose nothing.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tips_bench.models.initial import STD
from tips_bench.models.layers import Block
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

_GRAY = 0.5
_ATTENTION = 0.2


@torch.no_grad()
def widen(vision: VisionTower, text: TextTower) -> None:
    """Rescales the maps, the tokens and the attention of towers that `init_weights` has set."""
    for module in (*vision.modules(), *text.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight /= STD * math.sqrt(module.weight[0].numel())
    text.token_embed.weight /= STD * math.sqrt(text.config.embed_dim)
    patches = vision.patch_embed.proj
    patches.bias -= _GRAY * patches.weight.flatten(1).sum(dim=1)
    for block in vision.blocks:
        assert isinstance(block, Block)
        if block.ls1 is not None:
            block.ls1.gamma *= _ATTENTION
