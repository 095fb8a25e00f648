"""The TIPS text tower: a pre-norm transformer with sinusoidal positions, pooled by its mean over the real tokens.

Architecture: google-deepmind/tips, pytorch/text_encoder.py.
Axes in tensor names: T texts, L tokens of a text, D feature.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tips_bench.errors import UserError
from tips_bench.models.configs import TextConfig
from tips_bench.models.dropping import Dropout
from tips_bench.models.initialization import SeededTower
from tips_bench.models.layers import Block, Mlp

_MIN_TIMESCALE, _MAX_TIMESCALE = 1.0, 10_000.0
# google-deepmind/tips, GlobalAvgPooling: keeps the mean of no tokens at zero.
_POOL_EPSILON = 1e-8


class TextTower(SeededTower[TextConfig]):
    """Token ids to one embedding a text, not normalised. A text without tokens has the embedding zero.

    temperature: what cosines with global tokens are divided by to give logits; None where the weights came without one.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.temperature: float | None = None
        self.token_embed = nn.Embedding(config.vocab_size, config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(
                config.embed_dim,
                config.num_heads,
                Mlp(config.embed_dim, config.mlp_dim, activation="relu"),
                eps=config.layer_norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)

    def forward(self, ids_TL: Tensor, paddings_TL: Tensor) -> Tensor:
        """[T,D]. paddings_TL: 1 where a token is padding, 0 where it is real."""
        if ids_TL.ndim != 2 or ids_TL.shape != paddings_TL.shape:
            raise UserError(
                f"ids have the shape {tuple(ids_TL.shape)} and paddings {tuple(paddings_TL.shape)}",
                where=f"text tower {self.config.name!r}",
                fix="Give both as [texts, tokens].",
            )
        if ids_TL.numel() and not 0 <= int(ids_TL.min()) <= int(ids_TL.max()) < self.config.vocab_size:
            raise UserError(
                f"ids from {int(ids_TL.min())} to {int(ids_TL.max())} are outside the vocabulary of {self.config.vocab_size}",
                where=f"text tower {self.config.name!r}",
                fix="Use the tokenizer that belongs to these weights.",
            )
        return self.encode(*trim(ids_TL, paddings_TL))

    def encode(self, ids_TL: Tensor, paddings_TL: Tensor, dropout: Dropout | None = None) -> Tensor:
        """As `forward`, without its checks and with all columns: nothing here waits for the device. dropout: for training."""
        keep_TL = paddings_TL == 0
        length = ids_TL.shape[1]
        x_TLD = self.token_embed(ids_TL) * math.sqrt(self.config.embed_dim)
        x_TLD = x_TLD + sinusoidal_positions(length, self.config.embed_dim, device=x_TLD.device).to(x_TLD.dtype)
        # A text without tokens attends to its padding, so that no softmax is over nothing; the mean below ignores it.
        seen_TL = keep_TL | ~keep_TL.any(dim=1, keepdim=True)
        for index, block in enumerate(self.blocks):
            x_TLD = block(x_TLD, seen_TL) if dropout is None else block(x_TLD, seen_TL, None, dropout.at(index))
        weight_TL1 = keep_TL[..., None].to(x_TLD.dtype)
        return (self.norm(x_TLD) * weight_TL1).sum(dim=1) / (weight_TL1.sum(dim=1) + _POOL_EPSILON)


def trim(ids_TL: Tensor, paddings_TL: Tensor, *, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Ids and paddings up to the last token of the longest text: columns that are padding in every text change nothing.

    multiple: that length is rounded up to it, so that fewer shapes are met. Waits for the device that holds them.
    """
    real = (paddings_TL == 0).any(dim=0).nonzero()
    length = int(real.max()) + 1 if len(real) else 0
    length = min(-(-length // multiple) * multiple, paddings_TL.shape[1])
    return ids_TL[:, :length], paddings_TL[:, :length]


def sinusoidal_positions(length: int, dim: int, *, device: torch.device | str = "cpu") -> Tensor:
    """[L,D]: sines, then cosines, of the position over timescales from 1 to 10,000 in geometric steps; an odd D ends in zero."""
    count = dim // 2
    step = math.log(_MAX_TIMESCALE / _MIN_TIMESCALE) / max(count - 1, 1)
    frequencies = torch.exp(torch.arange(count, dtype=torch.float32, device=device) * -step) / _MIN_TIMESCALE
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))
