"""The contract of videos: clips with the masks of objects that are followed through them.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from tips_bench.data.base import IGNORE, ImageSample, Reader
from tips_bench.data.images import image_size, read_image, read_mask
from tips_bench.errors import UserError


@dataclass(frozen=True)
class Clip:
    """One video; its frames are read one by one. id: its name. group: what it is resampled with.

    images: the frames' files, in order. masks: frame -> the file of its ids, for frames that have one. starts: object -> the first frame
    with its mask, where the set tells it; None = the objects are those of the first frame. counted: then every number up to the greatest
    there is an object, as in DAVIS, and not only those that are seen.
    """

    id: str
    group: str
    images: list[Path]
    masks: dict[int, Path]
    starts: Mapping[int, int] | None = None
    counted: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a frame in pixels. Errors: another size than the first frame's."""
        found = image_size(self.images[index])
        if found != self.shape:
            sizes = " and ".join("x".join(map(str, size)) for size in (self.shape, found))
            raise UserError(f"the clip has frames of {sizes} pixels", where=self.images[index], fix="Get the clip again.")
        return found

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the first frame in pixels."""
        return image_size(self.images[0])

    def load(self, index: int) -> ImageSample:
        """One frame. Errors: a broken or missing file."""
        return ImageSample(f"{self.id}/{self.images[index].stem}", self.group, read_image(self.images[index]))

    def ids(self, index: int) -> np.ndarray:
        """ids_HW, uint8, of a frame that has a mask: 0 is background, 255 too, as davis2017-evaluation has it.

        Errors: a broken file, one of another size than the frame.
        """
        ids_HW = read_mask(self.masks[index])
        if ids_HW.shape != self.shape:
            sizes = " and ".join("x".join(map(str, size)) for size in (ids_HW.shape, self.shape))
            raise UserError(f"mask and frame differ in size: {sizes} pixels", where=self.masks[index], fix="Get the clip again.")
        return np.where(ids_HW == IGNORE, 0, ids_HW)

    @cached_property
    def objects(self) -> dict[int, int]:
        """Object -> the frame in which its mask is given. Errors: a first frame without a mask, or without an object."""
        if self.starts is not None:
            return dict(self.starts)
        if 0 not in self.masks:
            raise UserError("the first frame has no mask", where=self.images[0], fix="Get the clip again.")
        seen = np.unique(self.ids(0))
        found = range(1, int(seen[-1]) + 1) if self.counted else seen[seen > 0].tolist()
        if not found:
            raise UserError("the mask of the first frame has no object", where=self.masks[0], fix="Leave the clip out of the list.")
        return dict.fromkeys(found, 0)


class VideoReader(Reader[Clip], Protocol):
    """One split of a set of videos; each clip is a sample. has_truth: whether frames are annotated beyond those that objects start in."""

    has_truth: bool
