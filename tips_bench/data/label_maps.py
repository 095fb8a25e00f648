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
from tips_bench.data.image_files import ImagePairs
from tips_bench.data.images import read_mask
from tips_bench.errors import UserError
from tips_bench.files import digest


@dataclass(frozen=True)
class LabelRule:
    """How stored ids become classes.

    reduce_zero_label: id 0 is ignored and the others go down by one. background: stored ids that become class 0, as does 255; those below
    go up by one.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    reduce_zero_label: bool = False
    background: range | None = None

    @classmethod
    def of(cls, classes: Iterable[str], palette: Iterable[Iterable[int]], reduce_zero_label: bool = False) -> LabelRule:
        """From any sequences of names and RGB colours."""
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
        return cls(tuple(classes), colors, reduce_zero_label)

    @cached_property
    def table(self) -> np.ndarray:
        """256 bytes: stored id -> class index, 255 = ignored; an id outside the classes maps to one outside them.

        The rule is that of mmsegmentation's `LoadAnnotations`, but for a background.
        """
        if self.background is not None:
            table = np.full(256, IGNORE - 1, np.uint8)
            table[: self.background.start] = np.arange(1, self.background.start + 1)
            table[[*self.background, IGNORE]] = 0
            return table
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


class MaskReader(ImagePairs):
    """A SegmentationReader over pairs of files: id -> (image file, label file). rule: how stored ids become classes."""

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
        super().__init__(name, split, root, pairs, how=how, group=group, no_target="an image has no label file")
        self.rule, self.classes, self.palette = rule, list(rule.classes), list(rule.palette)
        self.fingerprint = digest(*self.ids, *self.image_bytes, *self.target_bytes, *rule.table, *rule.classes)

    def load(self, index: int) -> SegmentationSample:
        """Decode one sample. Errors: a broken or missing file, a label file of another size or with ids outside the classes."""
        path = self.files(index)[1]
        image_HW3, mask_HW = self.image(index), read_mask(path)
        self.check_sizes(index, image_HW3, mask_HW, "labels")
        return SegmentationSample(self.ids[index], self.groups[index], image_HW3, self.rule.apply(mask_HW, where=path))
