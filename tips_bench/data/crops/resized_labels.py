"""Random resized crops of images with label maps, with changed colors: torchvision's own transforms, made a function of a number.

The order is that of vpariza/open-hummingbird-eval 5e79da2 (hbird/utils/transforms.py:168-208, image_transformations.py:88-121):
brightness, contrast, saturation and hue, each on its own with a probability, on the 8-bit image; then one crop of the image, bilinear and
antialiased, and of the labels, nearest. A range of areas may go beyond 1: sides that do not fit are drawn again, as torchvision does it.

torchvision draws from torch's global random state. Here that state is set from (seed, number) and put back afterwards.

Axes: H W pixels.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor
from torchvision.transforms import ColorJitter, InterpolationMode, RandomApply, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from tips_bench.cards import Strict
from tips_bench.data.base import SegmentationSample
from tips_bench.data.images import to_pixels

_global_state = threading.Lock()


class ResizedLabelsCard(Strict):
    """scale, ratio: ranges of a crop's share of the area and of its aspect. jitter: range of each change of color; jitter_p: how often."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    jitter: float = Field(ge=0, le=0.5)
    jitter_p: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> ResizedLabelsCard:
        if not 0 < self.scale[0] <= self.scale[1] or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("scale and ratio are [least, greatest], above 0")
        return self


def resized_labels(sample: SegmentationSample, card: ResizedLabelsCard, size: int, seed: int, number: int) -> tuple[Any, Tensor]:
    """(sample with labels_HW of the crop, pixels_3HW in [0, 1]), both of size x size pixels; a function of (sample, seed, number)."""
    jitters = [ColorJitter(**{name: card.jitter}) for name in ("brightness", "contrast", "saturation", "hue")]
    with _global_state, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]))
        image: Any = Image.fromarray(sample.image_HW3)
        for jitter in jitters:
            image = RandomApply([jitter], card.jitter_p)(image)
        box = RandomResizedCrop.get_params(image, list(card.scale), list(card.ratio))
    pixels_3HW = resized_crop(to_pixels(np.asarray(image)), *box, [size, size], InterpolationMode.BILINEAR, antialias=True)
    labels_1HW = torch.from_numpy(np.ascontiguousarray(sample.labels_HW))[None]
    labels_HW = resized_crop(labels_1HW, *box, [size, size], InterpolationMode.NEAREST)[0].numpy()
    return replace(sample, labels_HW=labels_HW), pixels_3HW.clamp(0, 1)
