"""Samples that are an image file and a label file each, and the rule that turns stored ids into classes.

Axes: H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tips_bench.data.base import IGNORE, SegmentationSample
from tips_bench.data.images import image_size, read_image, read_mask
from tips_bench.data.listing import file_sizes, group_of
from tips_bench.errors import UserError
from tips_bench.files import digest


@dataclass(frozen=True)
class LabelRule:
    """How stored ids become classes. reduce_zero_label: id 0 is ignored and the others go down by one."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    reduce_zero_label: bool = False

    @classmethod
    def of(cls, classes: Iterable[str], palette: Iterable[Iterable[int]], reduce_zero_label: bool = False) -> LabelRule:
        """From any sequences of names and RGB colours."""
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
        return cls(tuple(classes), colors, reduce_zero_label)

    @cached_property
    def table(self) -> np.ndarray:
        """256 bytes: stored id -> class index, 255 = ignored; an id outside the classes maps to one outside them.

        The rule is that of mmsegmentation's `LoadAnnotations`.
        """
        return np.array([IGNORE, *range(254), IGNORE] if self.reduce_zero_label else range(256), np.uint8)

    @cached_property
    def stray(self) -> np.ndarray:
        """256 booleans: stored ids that are neither a class nor ignored."""
        return (self.table >= len(self.classes)) & (self.table != IGNORE)

    def apply(self, mask_HW: np.ndarray, *, where: object) -> np.ndarray:
        """labels_HW, uint8. Errors: stored ids outside the classes, named and counted."""
        if np.take(self.stray, mask_HW).any():
            counts = np.bincount(mask_HW.ravel(), minlength=256) * self.stray
            found = np.flatnonzero(counts)
            some = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
            problem = f"ids outside the {len(self.classes)} classes: {some} ({counts.sum()} of {mask_HW.size} pixels)"
            raise UserError(problem, where=where, fix="Is it a label file of this data set, converted as its task says?")
        return np.take(self.table, mask_HW)


class MaskReader:
    """A SegmentationReader over pairs of files. rule: how stored ids become classes.

    pairs: id -> (image file, label file). group: a regular expression whose first group, found in an id, names the sample's
    group (frames of one scene); without it each sample is its own group. how: said where files are missing.
    Errors: a file that is missing, with the number of all that are; an id in which `group` finds nothing.
    """

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        pairs: Mapping[str, tuple[str, str]],
        rule: LabelRule,
        *,
        how: str,
        group: re.Pattern[str] | None = None,
    ) -> None:
        self.name, self.split, self.root, self.rule = name, split, str(root), rule
        self.classes, self.palette = list(rule.classes), list(rule.palette)
        self.ids = sorted(pairs)
        self.groups = list(self.ids) if group is None else [group_of(group, sample) for sample in self.ids]
        self._images = [pairs[sample][0] for sample in self.ids]
        self._masks = [pairs[sample][1] for sample in self.ids]
        image_sizes = file_sizes(self._images, "an image that the split names is missing", how)
        mask_sizes = file_sizes(self._masks, "an image has no label file", how)
        self.fingerprint = digest(*self.ids, *image_sizes, *mask_sizes, *rule.table, *rule.classes)

    def __len__(self) -> int:
        return len(self.ids)

    def files(self, index: int) -> tuple[Path, Path]:
        """(image file, label file) of a sample."""
        return Path(self._images[index]), Path(self._masks[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, from its header."""
        return image_size(Path(self._images[index]))

    def load(self, index: int) -> SegmentationSample:
        """Decode one sample. Errors: a broken or missing file, a label file of another size or with ids outside the classes."""
        image_path, mask_path = self.files(index)
        image_HW3, mask_HW = read_image(image_path), read_mask(mask_path)
        if image_HW3.shape[:2] != mask_HW.shape:
            mask, image = ("x".join(map(str, array.shape[:2])) for array in (mask_HW, image_HW3))
            problem = f"{mask} labels, but the image {image_path.name} is {image} (height x width)"
            raise UserError(problem, where=mask_path, fix="Both must be of one size; get the pair again.")
        return SegmentationSample(self.ids[index], self.groups[index], image_HW3, self.rule.apply(mask_HW, where=mask_path))
