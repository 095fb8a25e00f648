"""An encoder source: a patch is its mean color. `--model mean-color:16` gives patches of 16 pixels; a card may name the source, too.

Axes: B batch, H W pixels, h w token grid, D = 3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import ModelCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.errors import UserError


class MeanColorEncoder(Encoder):
    """One "block", no global token, no weights."""

    def __init__(self, card: ModelCard, device: str | None, dtype: str | None) -> None:
        self.spec = spec_from_card(card, "none")
        self.device = torch.device(device or "cpu")
        self.dtype = torch.bfloat16 if dtype == "bf16" else torch.float32

    @classmethod
    def describe(cls, text: str) -> ModelCard:
        """The card of `mean-color:TEXT`. Errors: TEXT is no number of pixels."""
        if not text.isdecimal() or not 1 <= int(text) <= 64:
            raise UserError(f"{text!r} is no patch size", where="mean-color", fix="Write for example --model mean-color:16.")
        return ModelCard(
            name=f"mean-color:{text}",
            title=f"Mean color of patches of {text} pixels",
            source="mean-color",
            patch_size=int(text),
            embed_dim=3,
            depth=1,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            resolution=224,
            global_tokens=0,
            license="none",
            citation="none",
            homepage="none",
        )

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> MeanColorEncoder:
        """What `load_encoder` calls."""
        return cls(card, device, dtype)

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        patches_BhwD = F.avg_pool2d(pixels_B3HW, self.spec.patch_size).permute(0, 2, 3, 1)
        globals_BKD = patches_BhwD.new_zeros(len(patches_BhwD), 0, 3)
        return ImageFeatures(globals_BKD, [patches_BhwD] * len(layers), [globals_BKD] * len(layers))
