"""The random crops on which the published linear depth protocols train, each a function of a number.

DINOv2 and DINOv3 train on the pipeline of the Monocular-Depth-Estimation-Toolbox (depth/datasets/pipelines/transforms.py): a fixed box,
a small rotation, a mirror image, a crop, and a change of colours. The numbers drawn are those, the random state is another.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tips_bench.cards import Strict
from tips_bench.data.base import DepthReader, DepthSample
from tips_bench.data.crops.base import NumberedCrops
from tips_bench.data.images import to_pixels
from tips_bench.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class DepthAugmentCard(Strict):
    """The numbers of the crops, in the order in which they are used.

    box: [top, bottom, left, right] pixels that are kept of an image, or null. rotate: greatest angle in degrees, with probability
    rotate_share; what turns in from outside is black and of unknown depth. flip: probability of the mirror image. crop: (height, width)
    in pixels. colour_share: probability that colours change: values v of 0 to 255 become brightness * colour * v ^ gamma, one factor
    `colour` a channel, cut at 255.
    """

    box: tuple[int, int, int, int] | None = None
    rotate: float = Field(ge=0, le=180)
    rotate_share: Share
    flip: Share
    crop: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    color_share: Share
    gamma: Range
    brightness: Range
    color: Range

    @model_validator(mode="after")
    def _ordered(self) -> DepthAugmentCard:
        for name in ("gamma", "brightness", "color"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [least, greatest]")
        if self.box is not None and not (0 <= self.box[0] < self.box[1] and 0 <= self.box[2] < self.box[3]):
            raise ValueError("box is [top, bottom, left, right]")
        return self


class DepthCrops(NumberedCrops[DepthSample]):
    """Crops by number, as the card says."""

    def __init__(self, reader: DepthReader, options: DepthAugmentCard, indices: Sequence[int], seed: int) -> None:
        super().__init__(reader, indices, seed)
        self.options = options

    def crop(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(image_HW3 float32 RGB from 0 to 255, depth_HW float32 metres, 0 = unknown), a function of (seed, number) alone.

        Errors: an image smaller than the crop.
        """
        sample = self.sample(number)
        image_HW3, depth_HW = _boxed(sample.image_HW3, sample.depth_HW, self.options.box)
        return augment(image_HW3, depth_HW, self.options, np.random.default_rng([self.seed, number, 1]), where=sample.id)

    def tensors(self, number: int) -> tuple[Tensor, Tensor]:
        """(pixels_3HW in [0, 1], depth_HW)."""
        image_HW3, depth_HW = self.crop(number)
        return to_pixels(image_HW3), torch.from_numpy(depth_HW)


def _boxed(image_HW3: np.ndarray, depth_HW: np.ndarray, box: tuple[int, int, int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    if box is None:
        return image_HW3, depth_HW
    rows, columns = slice(box[0], box[1]), slice(box[2], box[3])
    return image_HW3[rows, columns], depth_HW[rows, columns]


def augment(
    image_HW3: np.ndarray, depth_HW: np.ndarray, card: DepthAugmentCard, generator: np.random.Generator, *, where: object = None
) -> tuple[np.ndarray, np.ndarray]:
    """One crop of an image and its depth map, as the card says. Errors: an image smaller than the crop."""
    height, width = depth_HW.shape
    if height < card.crop[0] or width < card.crop[1]:
        problem = f"an image of {height}x{width} pixels is smaller than the crop of {card.crop[0]}x{card.crop[1]}"
        raise UserError(
            problem, where=where, fix="Use a protocol for this data set, or set a smaller crop: --set probe.augment.crop=[HEIGHT,WIDTH]."
        )
    turned, angle = generator.random() < card.rotate_share, generator.uniform(-card.rotate, card.rotate)
    if turned:
        image_HW3, depth_HW = rotate(image_HW3, angle, cv2.INTER_LINEAR), rotate(depth_HW, angle, cv2.INTER_NEAREST)
    if generator.random() < card.flip:
        image_HW3, depth_HW = image_HW3[:, ::-1], depth_HW[:, ::-1]
    top, left = (int(generator.integers(0, side - cut + 1)) for side, cut in zip((height, width), card.crop, strict=True))
    window = slice(top, top + card.crop[0]), slice(left, left + card.crop[1])
    image_HW3, depth_HW = image_HW3[window].astype(np.float32), np.ascontiguousarray(depth_HW[window], np.float32)
    if generator.random() < card.color_share:
        gamma, brightness = generator.uniform(*card.gamma), generator.uniform(*card.brightness)
        color_3 = generator.uniform(*card.color, size=3)
        image_HW3 = np.clip(image_HW3**gamma * brightness * color_3, 0, 255)
    return image_HW3.astype(np.float32), depth_HW


def rotate(array: np.ndarray, degrees: float, interpolation: int) -> np.ndarray:
    """Turned clockwise about the centre of its pixels, 0 where nothing was; the size stays."""
    height, width = array.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    return cv2.warpAffine(array, matrix, (width, height), flags=interpolation, borderValue=0)
