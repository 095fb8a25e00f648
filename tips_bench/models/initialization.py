"""First weights of networks, from a seed: independent of the global random state, of the device and of the order of the parameters.

    seeded_fill       every parameter, as ViT and BERT begin
    scenic_fill       towers, as the training code of TIPS begins
    rescale_narrow    towers narrower than those that 0.02 suits
    wave_positions    a table of positions as sines and cosines

A standard deviation of 0.02 suits widths of a thousand (ViT, BERT). At 192 its maps shrink what they are given: at first every image
and every text has nearly the same embedding, the contrastive loss stands at log of the batch, and Adam makes them all the same before
they can tell anything apart. `rescale_narrow` lets each map keep the variance of its input (LeCun et al., Efficient BackProp, 1998);
tokens of text have unit variance after the factor sqrt(D) that the tower gives them, and a patch of middle grey, which TIPS does not
subtract, gives zero. Attention that is still uniform adds the same vector to all patches of an image. At full strength that drowns what
they show: of the variance of patch features, a seventh was within images after 50,000 images of close-ups, and two fifths where LayerScale
let a tenth of it pass. Global tokens begin near zero and get all that they have from attention, so that they lose nothing.

TIPS interpolates its table of positions to the grid of a crop: neighbours in a crop of 4 x 4 patches are then five rows of the table
apart, in a whole image of 20 x 20 patches one. A long training at many resolutions evens that out. A short one at low resolution gives
attention that knows near from far in crops alone. With `model.positions: window` a crop takes a random part of the table as it is, as if
it had been cut from a whole image, and neighbours are neighbours at both resolutions. Inference does not change. The table then begins as
waves (Vaswani et al., 2017; MAE, arXiv 2111.06377, keeps them as they are), so that what is learned of one place holds for others from
the first step on.

Axes in tensor names: R rows and C columns of the table of positions, D feature.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.models.layers import Block, LayerScale

if TYPE_CHECKING:
    from tips_bench.models.text import TextTower
    from tips_bench.models.vision import VisionTower

# Standard deviation of ViT and BERT initialization, truncated at two of it.
STD = 0.02
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal that is cut off at two
_GRAY = 0.5
_ATTENTION = 0.2
_AMPLITUDE = 0.3  # of a wave beside patches, whose values vary by one
_LONGEST = 1000.0  # scale of the slowest wave

ConfigT = TypeVar("ConfigT", VisionConfig, TextConfig)


class SeededTower(nn.Module, Generic[ConfigT]):
    """A tower that a config describes and a seed can fill."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__()
        self.config: ConfigT = config

    @classmethod
    def random(cls, config: ConfigT, seed: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """A tower with the weights of a seed; leaves the global random state alone."""
        with torch.device("meta"):
            tower = cls(config)
        tower = tower.to(dtype).to_empty(device=device)
        tower.init_weights(seed)
        return tower

    def init_weights(self, seed: int) -> None:
        """Sets every parameter from the seed: the same values on any device and in any process."""
        seeded_fill(self, seed)


@torch.no_grad()
def seeded_fill(module: nn.Module, seed: int) -> None:
    """Norms to one and zero, LayerScale to its initial value, biases and mask tokens to zero, all else to a truncated normal."""
    for owner_name, owner in module.named_modules():
        for name, parameter in owner.named_parameters(owner_name, recurse=False):
            parameter.copy_(_value(owner, name, parameter.shape, seed))


def _value(owner: nn.Module, name: str, shape: torch.Size, seed: int) -> Tensor:
    leaf = name.rpartition(".")[2]
    if isinstance(owner, LayerScale):
        return torch.full(shape, owner.init_value)
    if isinstance(owner, nn.LayerNorm) and leaf == "weight":
        return torch.ones(shape)
    if leaf in ("bias", "mask_token"):
        return torch.zeros(shape)
    return nn.init.trunc_normal_(torch.empty(shape), std=STD, a=-2 * STD, b=2 * STD, generator=_generator(seed, name))


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))


@torch.no_grad()
def scenic_fill(vision: VisionTower, text: TextTower, seed: int) -> None:
    """Sets the weights of towers that `init_weights` has set to the spread of google-deepmind/tips (4db271d), scenic/models/.

    Maps are Xavier-uniform (vit.py, lines 162 and 239 ff.), queries, keys and values each for itself, as gate and value of SwiGLU are;
    patches Flax's default for a convolution, a truncated normal of variance 1/inputs; positions and tokens of text normal of variance
    1/width (vit.py, line 85; text.py, `emb_var`); CLS tokens zero. Its biases of 1e-6 are zero here. The position of the CLS token, which
    it has not, is zero: it is added to a token that is learned itself.
    """
    for tower, part in ((vision, "vision"), (text, "text")):
        for name, module in tower.named_modules():
            if isinstance(module, nn.Linear):
                maps = {"qkv": 3, "w12": 2}.get(name.rpartition(".")[2], 1)
                bound = math.sqrt(6 / (module.in_features + module.out_features / maps))
                module.weight.copy_(torch.empty(module.weight.shape).uniform_(-bound, bound, generator=_generator(seed, f"{part}.{name}")))
    patches = vision.patch_embed.proj.weight
    std = 1 / math.sqrt(patches[0].numel()) / _TRUNCATED_STD
    patches.copy_(
        nn.init.trunc_normal_(torch.empty(patches.shape), std=std, a=-2 * std, b=2 * std, generator=_generator(seed, "vision.patches"))
    )
    for table, name in ((vision.pos_embed, "vision.positions"), (text.token_embed.weight, "text.tokens")):
        table.copy_(torch.empty(table.shape).normal_(std=1 / math.sqrt(table.shape[-1]), generator=_generator(seed, name)))
    for token in (vision.cls_token, vision.register_tokens, vision.pos_embed[:, :1]):
        token.zero_()


@torch.no_grad()
def rescale_narrow(vision: VisionTower, text: TextTower) -> None:
    """Rescales the maps, the tokens and the attention of narrow towers that `init_weights` has set."""
    for module in (*vision.modules(), *text.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight /= STD * math.sqrt(module.weight[0].numel())
    text.token_embed.weight /= STD * math.sqrt(text.config.embed_dim)
    patches = vision.patch_embed.proj
    if patches.bias is None:
        raise ValueError("the tower's patches have no bias, which takes gray to zero")
    patches.bias -= _GRAY * patches.weight.flatten(1).sum(dim=1)
    for block in vision.blocks:
        assert isinstance(block, Block)
        if block.ls1 is not None:
            block.ls1.gamma.mul_(_ATTENTION)


@torch.no_grad()
def wave_positions(vision: VisionTower) -> None:
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
