"""Patch features brought to a finer grid by an upsampler that sees the image, between the encoder and any head.

The finer grid covers the same pixels, padding included, so that heads, labels and windows go on as before: only with more cells.
`bilinear` is the control: whatever an upsampler gains over it, it gains by the image.

Axes: B batch, H W pixels, h w token grid, D feature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tips_bench.encoders.user import named
from tips_bench.encoders.weights import freeze
from tips_bench.errors import CodeFailed, UserError
from tips_bench.fetch import first_line
from tips_bench.files import digest
from tips_bench.registry import UPSAMPLERS
from tips_bench.upsampler_card import UpsamplerCard

# Of ImageNet's training images, RGB in [0, 1], as torchvision's and mmsegmentation's models have them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The same but for a slip in the last digit is the second: vpariza/open-hummingbird-eval 5e79da2, hbird/utils/transforms.py:29.
NORMALIZATIONS = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD), "hummingbird": (IMAGENET_MEAN, (0.229, 0.224, 0.255))}

Upsample = Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
"""(image [B,3,H,W] normalized by ImageNet's mean and deviation, features [B,D,h,w], (h', w')) -> features [B,D,h',w']."""


@dataclass(frozen=True)
class Upsampler:
    """factor: cells of the finer grid along a side of a patch. sha256: hex, of its weights, or, of a function without any, of what it
    makes of a fixed image and fixed features.
    """

    name: str
    function: Upsample
    factor: int
    sha256: str

    @classmethod
    def load(cls, card: UpsamplerCard, dim: int, device: torch.device) -> Upsampler:
        """dim: features a patch. Errors: an unknown name, code or weights that are not there or fail, another shape than was asked for."""
        function = _own(card) if ":" in card.name else UPSAMPLERS.get(card.name, where="features.upsampler.name")(card, dim)
        if isinstance(function, nn.Module):
            function = freeze(function, device, torch.float32)
        generator = torch.Generator().manual_seed(0)
        image_13HW = torch.rand(1, 3, 32, 48, generator=generator).to(device)
        features_1hwD = torch.randn(1, 4, 6, dim, generator=generator).to(device)
        made = cls(card.name, function, card.factor, "")(image_13HW, (0, 0, 0, 0), features_1hwD)
        state = function.state_dict() if isinstance(function, nn.Module) else {}
        parts = [part for key, tensor in state.items() for part in (key, _sha256(tensor))] or [_sha256(made)]
        return cls(card.name, function, card.factor, digest(card.name, *parts))

    def identity(self) -> str:
        """What tells it from any other."""
        return self.sha256

    @torch.no_grad()
    def __call__(self, pixels_B3HW: Tensor, padding: tuple[int, int, int, int], features_BhwD: Tensor) -> Tensor:
        """[B, h * factor, w * factor, D], in the precision of the features.

        pixels_B3HW: in [0, 1]. padding: (left, top, right, bottom) pixels that the features cover around the image; they have the mean
        color. An encoder that stretches the image instead is told so by a padding of zeros.
        """
        pixels_B3HW = pixels_B3HW.to(features_BhwD.device, torch.float32)
        mean_311, std_311 = (torch.tensor(values, device=pixels_B3HW.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        left, top, right, bottom = padding
        image_B3HW = F.pad((pixels_B3HW - mean_311) / std_311, (left, right, top, bottom))
        _, height, width, dim = features_BhwD.shape
        size = height * self.factor, width * self.factor
        features_BDhw = features_BhwD.permute(0, 3, 1, 2).float().contiguous()
        finer_BDhw = self._called(image_B3HW, features_BDhw, size)
        wanted = (len(features_BhwD), dim, *size)
        if not isinstance(finer_BDhw, Tensor) or tuple(finer_BDhw.shape) != wanted:
            given = list(finer_BDhw.shape) if isinstance(finer_BDhw, Tensor) else type(finer_BDhw).__name__
            problem = f"it gave {given} for features of {list(features_BDhw.shape)}, expected {list(wanted)}"
            raise UserError(problem, where=f"upsampler {self.name}", fix="Return features [B, D, h', w'] of the size that it is given.")
        if not torch.isfinite(finer_BDhw).all():
            raise UserError("it gave features that are NaN or infinite", where=f"upsampler {self.name}", fix="Check its weights.")
        return finer_BDhw.permute(0, 2, 3, 1).to(features_BhwD.dtype).contiguous()

    def _called(self, image_B3HW: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Any:
        try:
            return self.function(image_B3HW, features_BDhw, size)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            given = f"given features of {list(features_BDhw.shape)}, it raised {type(error).__name__}: {first_line(error)}"
            fix = "Check that it was made for this encoder's features, and that it takes images of any size."
            raise CodeFailed(given, where=f"upsampler {self.name}", fix=fix) from error


def refuse(upsampler: Upsampler | None) -> None:
    """Errors: there is an upsampler, where the head reads no grid of features."""
    if upsampler is not None:
        problem = "the task compares whole images, and an upsampler changes maps of features alone"
        raise UserError(problem, where="features.upsampler", fix="Set it to null, or choose a dense task.")


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.cpu().contiguous().numpy().tobytes()).hexdigest()


def _own(card: UpsamplerCard) -> Any:
    """A user's own "module:function"; a class is built without arguments."""
    found = named(card.name, "Name a function of (image, features, size), or an nn.Module.")
    return found() if isinstance(found, type) else found
