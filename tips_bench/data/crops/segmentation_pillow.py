"""Random training crops of segmentation as DINOv3 makes them: resized by Pillow, with antialiasing, and colored by torchvision.

Steps and the order in which numbers are drawn are those of facebookresearch/dinov3 6876159, dinov3/eval/segmentation/transforms.py:21-101
(colors), 116-134 (mirror), 137-188 (size), 257-309 (crop), 336-350 (padding) and 391-440 (order). Padding has the encoder's mean color,
which is the 0 after normalization there.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as color

from tips_bench.data.base import IGNORE, SegmentationReader, SegmentationSample
from tips_bench.data.crops.base import NumberedCrops
from tips_bench.data.crops.segmentation import AugmentCard, crop_state
from tips_bench.data.images import resize_shape

BRIGHTNESS, CONTRAST, SATURATION, HUE = (-32, 32), (0.5, 1.5), (0.5, 1.5), (-0.5, 0.5)
TRIES = 10


class PillowCrops(NumberedCrops[SegmentationSample]):
    """Crops by number. fill: RGB of the padding in [0, 1]."""

    def __init__(
        self,
        reader: SegmentationReader,
        options: AugmentCard,
        *,
        indices: Sequence[int],
        seed: int,
        fill: tuple[float, float, float],
    ) -> None:
        super().__init__(reader, indices, seed)
        self.options, self.fill = options, fill

    def tensors(self, number: int) -> tuple[Tensor, Tensor]:
        """(pixels_3HW in [0, 1], labels_HW uint8) of crop_size x crop_size pixels; a function of (seed, number) alone."""
        sample = self.sample(number)
        random = np.random.RandomState(crop_state(self.seed, number))
        image_3HW, labels_HW = augment(sample.image_HW3, sample.labels_HW, self.options, random)
        down, right = (self.options.crop_size - side for side in labels_HW.shape)
        pixels_3HW = torch.tensor(self.fill)[:, None, None].repeat(1, self.options.crop_size, self.options.crop_size)
        pixels_3HW[:, : labels_HW.shape[0], : labels_HW.shape[1]] = image_3HW / 255
        return pixels_3HW, F.pad(labels_HW, (0, right, 0, down), value=IGNORE)


def augment(image_HW3: np.ndarray, labels_HW: np.ndarray, card: AugmentCard, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """(image_3HW float32 of whole numbers from 0 to 255, labels_HW uint8), not padded, of one image and its labels.

    Errors: a strip that would become too large.
    """
    least, greatest = card.ratio
    short_side = int(card.short_side * (random.random_sample() * (greatest - least) + least))
    height, width = labels_HW.shape
    shape = resize_shape(height, width, short_side, library="pillow")
    resized = Image.fromarray(image_HW3).resize(shape[::-1], Image.Resampling.BILINEAR)
    image_3HW = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    marks_HW = F.interpolate(torch.from_numpy(np.ascontiguousarray(labels_HW))[None, None], shape, mode="nearest")[0, 0]
    rows, columns = _window(marks_HW, card, random)
    image_3HW, marks_HW = image_3HW[:, rows, columns], marks_HW[rows, columns]
    if random.rand() < card.flip:
        image_3HW, marks_HW = image_3HW.flip(-1), marks_HW.flip(-1)
    return (_colored(image_3HW, random) if card.photometric else image_3HW.float()), marks_HW


def _window(labels_HW: Tensor, card: AugmentCard, random: np.random.RandomState) -> tuple[slice, slice]:
    """Drawn again while one class covers too much of it, or there is only one."""
    window = _drawn(labels_HW, card.crop_size, random)
    for _ in range(TRIES if card.cat_max_ratio < 1 else 0):
        labels, counts = np.unique(labels_HW[window].numpy(), return_counts=True)
        counts = counts[labels != IGNORE]
        if len(counts) > 1 and counts.max() / counts.sum() < card.cat_max_ratio:
            break
        window = _drawn(labels_HW, card.crop_size, random)
    return window


def _drawn(labels_HW: Tensor, side: int, random: np.random.RandomState) -> tuple[slice, slice]:
    top, left = (random.randint(0, max(length - side, 0) + 1) for length in labels_HW.shape)
    return slice(top, top + side), slice(left, left + side)


def _colored(image_3HW: Tensor, random: np.random.RandomState) -> Tensor:
    """Brightness, contrast, saturation and hue, each changed in half of the crops; values are cut to whole numbers after each."""
    if random.randint(2):
        image_3HW = _linear(image_3HW, 1.0, random.uniform(*BRIGHTNESS))
    contrast_first = random.randint(2) == 1
    if contrast_first and random.randint(2):
        image_3HW = _linear(image_3HW, random.uniform(*CONTRAST), 0.0)
    if random.randint(2):
        image_3HW = color.adjust_saturation(image_3HW, random.uniform(*SATURATION))
    if random.randint(2):
        image_3HW = color.adjust_hue(image_3HW, random.uniform(*HUE))
    if not contrast_first and random.randint(2):
        image_3HW = _linear(image_3HW, random.uniform(*CONTRAST), 0.0)
    return image_3HW.float()


def _linear(image_3HW: Tensor, factor: float, summand: float) -> Tensor:
    return (image_3HW.float() * factor + summand).clamp(0, 255).to(torch.uint8)
