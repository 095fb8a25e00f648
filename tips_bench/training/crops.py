"""What student and teacher see of an image: random resized crops, flips, and which patches are masked.

Crop boxes follow torchvision's RandomResizedCrop, which is what DINOv2 uses. Masks in blocks follow iBOT (arXiv 2111.07832) as in
DINOv2's MaskingGenerator, with one deviation: what the blocks leave open is filled with single patches, so that every image has the
same number of masked patches.

Axes in tensor names: H W pixels, h w grid of patches, P = h w.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from tips_bench.training.recipe import MaskPart
from tips_bench.training.recipe_data import CropsPart
from tips_bench.training.shards import SampleFault

EXTENSIONS = ("jpg", "jpeg", "png", "webp")
MAX_PIXELS = 80_000_000
_FORMATS = ("JPEG", "PNG", "WEBP")  # the only decoders that untrusted files reach
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TRIES = 10
_LEAST_BLOCK = 4  # patches
_LEAST_ASPECT = 0.3

Box = tuple[int, int, int, int]


def read_image(members: dict[str, bytes]) -> Tensor:
    """image_3HW, uint8 RGB, turned as its EXIF orientation says, its channels last in memory.

    Errors: SampleFault: there is no image, it is broken or truncated, has over 80 million pixels or more than 8 bits a channel.
    """
    data = next((members[extension] for extension in EXTENSIONS if extension in members), None)
    if data is None:
        raise SampleFault("no image")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise SampleFault("image too large")
            if image.mode in _DEEP:
                raise SampleFault("image not of 8 bits")
            image_HW3 = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (SampleFault, MemoryError):
        raise
    except Exception as error:  # of a block of EXIF or XMP that is broken Pillow lets through whatever happens to be raised
        raise SampleFault("broken image") from error
    return torch.from_numpy(image_HW3).permute(2, 0, 1)


def random_box(height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator) -> Box:
    """(top, left, height, width) of a crop: a share of the area and an aspect drawn from ranges, or the largest middle part that fits.

    As torchvision's RandomResizedCrop: the aspect is drawn on a log scale, ten times at most.
    """
    area = height * width
    for _ in range(_TRIES):
        target = area * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = width, height
    if width / height < ratio[0]:
        h = min(height, max(1, round(width / ratio[0])))
    elif width / height > ratio[1]:
        w = min(width, max(1, round(height * ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def cut(image_3HW: Tensor, box: Box, size: int, flip: bool, interpolation: str) -> Tensor:
    """The box of a uint8 image at size x size pixels, uint8, resized with antialiasing, turned left to right if `flip`."""
    top, left, height, width = box
    part_13HW = image_3HW[None, :, top : top + height, left : left + width]
    if (height, width) != (size, size):
        part_13HW = F.interpolate(part_13HW, (size, size), mode=interpolation, antialias=True)
    return part_13HW[0].flip(-1) if flip else part_13HW[0]


def crops(
    image_3HW: Tensor, part: CropsPart, local_count: int, global_px: int, local_px: int, rng: np.random.Generator
) -> tuple[Tensor, list[Tensor]]:
    """The global crop, the same whatever local_count is, and the local ones; uint8 [3, px, px] each."""
    height, width = image_3HW.shape[-2:]

    def one(size: int, scale: tuple[float, float]) -> Tensor:
        box = random_box(height, width, scale, part.ratio, rng)
        return cut(image_3HW, box, size, bool(rng.random() < part.flip), part.interpolation)

    return one(global_px, part.global_scale), [one(local_px, part.local_scale) for _ in range(local_count)]


def random_mask(grid: int, part: MaskPart, rng: np.random.Generator) -> Tensor:
    """mask_P, bool: True on the rounded share of the patches of a grid x grid image."""
    count = round(part.ratio * grid * grid)
    masked_hw = _blocks(grid, count, rng) if part.pattern == "block" else np.zeros((grid, grid), bool)
    open_P = np.flatnonzero(~masked_hw)
    masked_hw.flat[rng.permutation(open_P)[: count - int(masked_hw.sum())]] = True
    return torch.from_numpy(masked_hw.ravel())


def _blocks(grid: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """masked_hw: rectangles put down until `count` patches are masked or ten in a row do not fit."""
    masked_hw = np.zeros((grid, grid), bool)
    failures = 0
    while failures < _TRIES and (left := count - int(masked_hw.sum())) > 0:
        area = rng.uniform(min(_LEAST_BLOCK, left), left)
        aspect = math.exp(rng.uniform(math.log(_LEAST_ASPECT), -math.log(_LEAST_ASPECT)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        failures += 1
        if 0 < h < grid and 0 < w < grid:
            top, first = rng.integers(grid - h + 1), rng.integers(grid - w + 1)
            block_hw = masked_hw[top : top + h, first : first + w]
            if 0 < block_hw.size - int(block_hw.sum()) <= left:
                block_hw[:] = True
                failures = 0
    return masked_hw
