"""Random resized crops of labelled images: torchvision's own transforms, made a function of a number.

torchvision draws from torch's global random state. Here that state is set from (seed, number) before each crop and put back after it, so
that a crop is the same in any worker process and after any restart. Axes: H W pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import hflip, pil_to_tensor, resized_crop

from tips_bench.cards import Strict
from tips_bench.data.base import ClassificationReader, LabeledImage
from tips_bench.data.crops.base import NumberedCrops

_global_state = threading.Lock()


class ResizedCropCard(Strict):
    """size: side of a crop in pixels. scale, ratio: ranges of its share of the area and of its aspect. flip: how often it is mirrored."""

    size: int = Field(gt=0)
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float = Field(ge=0, le=1)
    interpolation: Literal["bilinear", "bicubic"]

    @model_validator(mode="after")
    def _ordered(self) -> ResizedCropCard:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("scale and ratio are [least, greatest] above 0, and no crop is larger than its image")
        return self


class ResizedCrops(NumberedCrops[LabeledImage]):
    """Crops by number, as the card says."""

    def __init__(self, reader: ClassificationReader, card: ResizedCropCard, indices: Sequence[int], seed: int) -> None:
        super().__init__(reader, indices, seed)
        self.card = card

    def crop(self, number: int) -> tuple[Tensor, int]:
        """(pixels_3HW uint8, label); a function of (seed, number) alone."""
        sample = self.sample(number)
        image, card = Image.fromarray(sample.image_HW3), self.card
        with _global_state, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0]))
            box = RandomResizedCrop.get_params(image, list(card.scale), list(card.ratio))
            mirrored = bool(torch.rand(1) < card.flip)
        part = resized_crop(image, *box, [card.size, card.size], InterpolationMode(card.interpolation))
        return pil_to_tensor(hflip(part) if mirrored else part), sample.label

    def tensors(self, number: int) -> tuple[Tensor, Tensor]:
        """(pixels_3HW uint8, label)."""
        pixels_3HW, label = self.crop(number)
        return pixels_3HW, torch.tensor(label)
