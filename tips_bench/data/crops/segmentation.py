"""The random crops on which the published linear protocols train: mmsegmentation's own transforms, made a function of a number.

mmseg draws from numpy's global random state. Here that state is set from (seed, number) before each crop and put back after it,
under a lock, so a crop is the same in any worker process, in any thread and after any restart. Only a thread that draws from
the global state behind the lock's back could disturb it.

Axes: H W pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tips_bench.cards import Strict
from tips_bench.data.base import IGNORE, SegmentationReader, SegmentationSample
from tips_bench.data.crops.base import NumberedCrops
from tips_bench.data.images import resize_shape, to_pixels
from tips_bench.openmmlab import import_mmseg

UNBOUNDED = 1 << 24  # pixels: a long side that no image reaches
_global_state = threading.Lock()


class AugmentCard(Strict):
    """The numbers of the crops, in the order in which they are used.

    The image is scaled so that its shorter side is `short_side` (and its longer one at most `long_side`) times a factor drawn
    from `ratio`; `crop_size` squared pixels are cut out, drawn again up to ten times while one class covers more than
    `cat_max_ratio` of them; mirrored with probability `flip`; brightness, contrast, saturation and hue are changed if
    `photometric`; what is smaller than the crop is padded at the right and the bottom. library: whose transforms these are,
    mmsegmentation's, or DINOv3's on Pillow.
    """

    crop_size: int = Field(gt=0)
    short_side: int = Field(gt=0)
    long_side: int | None = Field(None, gt=0)
    ratio: tuple[float, float]
    cat_max_ratio: float = Field(gt=0, le=1)
    flip: float = Field(ge=0, le=1)
    photometric: bool
    library: Literal["mmseg", "pillow"] = "mmseg"

    @model_validator(mode="after")
    def _ordered(self) -> AugmentCard:
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError("ratio is [least, greatest], both above 0")
        if self.long_side is not None and self.long_side < self.short_side:
            raise ValueError("long_side is less than short_side")
        if self.library == "pillow" and self.long_side is not None:
            raise ValueError("library pillow has no long_side: set it to null")
        return self


class TrainCrops(NumberedCrops[SegmentationSample]):
    """Crops by number, of all samples by default.

    fill: RGB of the padding; the published pipelines pad with 0 after normalisation, so the encoder's mean colour reproduces them.
    """

    def __init__(
        self,
        reader: SegmentationReader,
        options: AugmentCard,
        *,
        indices: Sequence[int] | None = None,
        seed: int = 0,
        fill: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(reader, range(len(reader)) if indices is None else indices, seed)
        self.options, self.fill = options, fill

    def crop(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(image_HW3 uint8 RGB, labels_HW uint8) of crop_size x crop_size pixels; a function of (seed, number) alone."""
        sample = self.sample(number)
        if self.options.long_side is None:
            height, width = sample.labels_HW.shape
            resize_shape(height, width, int(self.options.short_side * self.options.ratio[1]))  # refuses a strip blown up
        results: dict[str, Any] = {
            "img": sample.image_HW3[:, :, ::-1],  # mmseg's transforms take BGR
            "gt_seg_map": sample.labels_HW,
            "seg_fields": ["gt_seg_map"],
            "img_shape": sample.labels_HW.shape,
        }
        with _global_state:
            before = np.random.get_state()
            try:
                np.random.seed(crop_state(self.seed, number))
                for transform in _transforms(self.options, self.fill):
                    results = transform(results)
            finally:
                np.random.set_state(before)
        return np.ascontiguousarray(results["img"][:, :, ::-1]), np.ascontiguousarray(results["gt_seg_map"])

    def tensors(self, number: int) -> tuple[Tensor, Tensor]:
        """(pixels_3HW in [0, 1], labels_HW uint8)."""
        image_HW3, labels_HW = self.crop(number)
        return to_pixels(image_HW3), torch.from_numpy(labels_HW)


def crop_state(seed: int, number: int) -> np.ndarray:
    """Eight words that seed numpy's global state for one crop."""
    return np.random.SeedSequence([seed, number]).generate_state(8)


@lru_cache(maxsize=4)
def _transforms(card: AugmentCard, fill: tuple[int, int, int]) -> list[Any]:
    """Built in each process anew: a pickled transform would import mmseg without its stand-in."""
    import_mmseg()
    from mmseg.registry import TRANSFORMS

    steps: list[dict[str, Any]] = [
        {
            "type": "RandomResize",
            "scale": (card.long_side or UNBOUNDED, card.short_side),
            "ratio_range": card.ratio,
            "keep_ratio": True,
        },
        {"type": "RandomCrop", "crop_size": (card.crop_size, card.crop_size), "cat_max_ratio": card.cat_max_ratio, "ignore_index": IGNORE},
        {"type": "RandomFlip", "prob": card.flip},
        *([{"type": "PhotoMetricDistortion"}] if card.photometric else []),
        {"type": "Pad", "size": (card.crop_size, card.crop_size), "pad_val": {"img": fill[::-1], "seg": IGNORE}},
    ]
    return [TRANSFORMS.build(step) for step in steps]
