"""Raw-pixel patches: what any learned encoder has to beat. One "block", no global token, no weights.

Axes: B batch, H W pixels, h w token grid, D = 3 x patch x patch feature.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import ModelCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.weights import resolve_dtype
from tips_bench.errors import UserError
from tips_bench.models.devices import resolve_device


class PixelsEncoder(Encoder):
    """Each patch's own pixels, channels first, then rows."""

    def __init__(self, card: ModelCard, device: str | None, dtype: str | None) -> None:
        if card.architecture:
            raise UserError(f"architecture = {card.architecture}: raw pixels have none", where=card.name)
        if card.embed_dim != 3 * card.patch_size**2:
            raise UserError(
                f"embed_dim = {card.embed_dim}, but patches of {card.patch_size} have {3 * card.patch_size**2} values", where=card.name
            )
        self.spec = spec_from_card(card, "none")
        self.device, self.dtype = resolve_device(device), resolve_dtype(dtype)

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> PixelsEncoder:
        """Errors: weights, of which there are none."""
        if weights is not None:
            raise UserError(f"weights = {str(weights)!r}: raw pixels have none", where=card.name, fix="Leave --weights out.")
        return cls(card, device, dtype)

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        patch = self.spec.patch_size
        grid = pixels_B3HW.shape[-2] // patch, pixels_B3HW.shape[-1] // patch
        patches_BhwD = F.unfold(pixels_B3HW, patch, stride=patch).transpose(1, 2).unflatten(1, grid)
        globals_BKD = patches_BhwD.new_zeros(len(patches_BhwD), 0, patches_BhwD.shape[-1])
        return ImageFeatures(globals_BKD, [patches_BhwD] * len(layers), [globals_BKD] * len(layers))
