"""The two networks that dino.txt adds to a frozen image encoder: a head on its tokens, and a text tower.

Architecture: facebookresearch/dinov3 at commit 6876159, dinov3/eval/text/vision_tower.py and text_tower.py, with the settings of
dinov3/hub/dinotxt.py; facebookresearch/dinov2 at commit b8931f7, dinov2/hub/text and dinov2/hub/dinotxt.py, has the same.
Axes in tensor names: B batch, T texts, L tokens of a text, N tokens of an image, D feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tips_bench.errors import UserError
from tips_bench.models.layers import Block, Mlp, SwiGlu

# torch's own default, which the source leaves as it is.
_EPS = 1e-5
# What LayerScale starts from (vision_tower.py:52 of dinov3).
_INIT_VALUES = 1e-5


@dataclass(frozen=True, kw_only=True)
class CausalTextConfig:
    """Shape of a causal text tower.

    out_dim: of the embedding. context: the longest text, in tokens. mlp_dim is 4 embed_dim.
    """

    embed_dim: int
    depth: int
    num_heads: int
    out_dim: int
    context: int = 77
    vocab_size: int = 49_408


class TokenHead(nn.Module):
    """Transformer blocks on all tokens of an image, CLS and registers first, and a norm."""

    def __init__(self, dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, SwiGlu(dim, swiglu_dim(dim)), eps=_EPS, init_values=_INIT_VALUES, qkv_bias=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=_EPS)

    def forward(self, x_BND: Tensor) -> list[Tensor]:
        """[B,N,D] after each block, before the norm."""
        outputs = []
        for block in self.blocks:
            x_BND = block(x_BND)
            outputs.append(x_BND)
        return outputs


class CausalTextTower(nn.Module):
    """Token ids to one embedding a text, not normalized: the token with the greatest id, the end of the text, projected."""

    def __init__(self, config: CausalTextConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.config = config
        self.token_embed = nn.Embedding(config.vocab_size, dim)
        self.pos_embed = nn.Parameter(torch.empty(config.context, dim))
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, Mlp(dim, 4 * dim, activation="gelu-erf"), eps=_EPS, qkv_bias=False, causal=True)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        self.proj = nn.Linear(dim, config.out_dim, bias=False)
        # text_transformer.py:52-53 of dinov3.
        nn.init.normal_(self.token_embed.weight, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.01)

    def forward(self, ids_TL: Tensor) -> Tensor:
        """[T,D]. Errors: more tokens than the tower has positions."""
        if ids_TL.shape[1] > self.config.context:
            problem = f"texts of {ids_TL.shape[1]} tokens, and the text tower has {self.config.context} positions"
            raise UserError(problem, fix="Cut the texts.")
        end_T = ids_TL.argmax(dim=-1)
        # What follows the end changes nothing in a causal tower.
        ids_TL = ids_TL[:, : int(end_T.max()) + 1]
        x_TLD = self.token_embed(ids_TL) + self.pos_embed[: ids_TL.shape[1]]
        for block in self.blocks:
            x_TLD = block(x_TLD)
        return self.proj(self.norm(x_TLD[torch.arange(len(x_TLD), device=x_TLD.device), end_T]))


def swiglu_dim(dim: int) -> int:
    """Width of the gate: two thirds of 4 dim, rounded up to a multiple of 64 (SwiGLUFFN of dinov3/layers/ffn_layers.py)."""
    hidden = int(4 * dim * 2 / 3)
    return hidden + -hidden % 64
