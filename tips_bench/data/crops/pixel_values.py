"""Square training crops of images with a value for every pixel: cut, coloured, zoomed and mirrored as a function of a number.

Nothing is drawn from a global random state, so that a crop is the same in any worker process and after any restart. Values are never
interpolated: where sizes change, the nearest pixel is taken.

Axes: H W pixels, S side of the crop, T values of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms import functional as color

from tips_bench.cards import Strict
from tips_bench.data.base import ImageSample, Reader
from tips_bench.data.crops.base import NumberedCrops
from tips_bench.data.images import center_crop, resize, to_pixels

Truth = Callable[[Any], tuple[np.ndarray, np.ndarray]]


class PixelValueCropCard(Strict):
    """The numbers of the crops, in the order in which they are used.

    size: S in pixels. shape: "center-crop" brings the shorter side to S and takes the middle, "square" stretches the image. jitter: how
    often brightness, contrast, saturation and hue are changed, each by up to `strength`, in an order that is drawn (torchvision's
    ColorJitter); normalized: after the encoder's mean was taken from the pixels and its deviation divided them, so that each change cuts
    them off at 0 and 1, which is how Probe3D does it on NAVI. zoom: how often a square of a share of the area drawn from `scale` is cut
    out and brought back to S. flip: how often the crop is mirrored.
    """

    size: int = Field(gt=0)
    shape: Literal["center-crop", "square"]
    jitter: float = Field(ge=0, le=1)
    strength: float = Field(ge=0, le=0.5)
    normalized: bool = False
    zoom: float = Field(ge=0, le=1)
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> PixelValueCropCard:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError("scale is [least, greatest] above 0, and no crop is larger than its image")
        return self


class PixelValueCrops(NumberedCrops[ImageSample]):
    """Crops by number, as the card says.

    truth: sample -> (values_THW, known_HW). unmirror: values_THW of a mirrored image -> those of the image, its own inverse. mean, std: of
    the encoder's RGB in [0, 1].
    """

    def __init__(
        self,
        reader: Reader[ImageSample],
        card: PixelValueCropCard,
        truth: Truth,
        unmirror: Callable[[Tensor], Tensor],
        indices: Sequence[int],
        seed: int,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        std: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(reader, indices, seed)
        self.card, self.truth, self.unmirror = card, truth, unmirror
        self.mean_311, self.std_311 = (torch.tensor(values)[:, None, None] for values in (mean, std))

    def tensors(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """(pixels_3SS float32 in [0, 1], values_TSS float32, known_SS bool); a function of (seed, number) alone."""
        sample = self.sample(number)
        values_THW, known_HW = self.truth(sample)
        pixels_3SS, values_TSS, known_SS = self._square(sample.image_HW3, values_THW, known_HW)
        card, rng = self.card, np.random.default_rng([self.seed, number])
        if rng.random() < card.jitter:
            pixels_3SS = self._jittered(pixels_3SS, rng)
        if rng.random() < card.zoom:
            rows, columns = _zoomed(card.size, rng.uniform(*card.scale), rng)
            pixels_3SS, values_TSS, known_SS = (found[..., rows[:, None], columns] for found in (pixels_3SS, values_TSS, known_SS))
        if rng.random() < card.flip:
            pixels_3SS, values_TSS, known_SS = pixels_3SS.flip(-1), self.unmirror(values_TSS), known_SS.flip(-1)
        return pixels_3SS.contiguous(), values_TSS.contiguous(), known_SS.contiguous()

    def _jittered(self, pixels_3SS: Tensor, rng: np.random.Generator) -> Tensor:
        if not self.card.normalized:
            return jitter(pixels_3SS, self.card.strength, rng)
        return jitter((pixels_3SS - self.mean_311) / self.std_311, self.card.strength, rng) * self.std_311 + self.mean_311

    def _square(self, image_HW3: np.ndarray, values_THW: np.ndarray, known_HW: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        side, (height, width) = self.card.size, known_HW.shape
        if self.card.shape == "square":
            shape = (side, side)
        else:
            shape = (max(side, round(height * side / min(height, width))), max(side, round(width * side / min(height, width))))
        rows, columns = (_nearest(full, part) for full, part in zip((height, width), shape, strict=True))
        top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
        rows, columns = rows[top : top + side, None], columns[left : left + side]
        pixels_3SS = to_pixels(center_crop(resize(image_HW3, shape), (side, side)))
        values_TSS = torch.from_numpy(np.ascontiguousarray(values_THW[:, rows, columns], dtype=np.float32))
        return pixels_3SS, values_TSS, torch.from_numpy(np.ascontiguousarray(known_HW[rows, columns]))


def jitter(pixels_3HW: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation times 1 - strength to 1 + strength, hue turned by up to `strength`, in an order that is drawn."""
    changes = [color.adjust_brightness, color.adjust_contrast, color.adjust_saturation, color.adjust_hue]
    amounts = [*rng.uniform(1 - strength, 1 + strength, 3), rng.uniform(-strength, strength)]
    for index in rng.permutation(4):
        pixels_3HW = changes[index](pixels_3HW, float(amounts[index]))
    return pixels_3HW


def _zoomed(size: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a square of this share of the area, `size` of each."""
    side = max(1, round(size * share**0.5))
    top, left = rng.integers(0, size - side + 1, 2)
    return top + _nearest(side, size), left + _nearest(side, size)


def _nearest(source: int, target: int) -> np.ndarray:
    """The pixel of the source under each pixel centre of the target."""
    return ((2 * np.arange(target) + 1) * source) // (2 * target)
