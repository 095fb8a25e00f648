"""Samples that are an image and a dense map of measured values each: depth or surface normals.

Axes: H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.data.base import DepthSample, NormalsSample
from tips_bench.data.camera_geometry import Intrinsics
from tips_bench.data.image_files import ImagePairs
from tips_bench.data.images import read_image, read_uint16
from tips_bench.errors import UserError
from tips_bench.files import digest

Box = tuple[slice, slice]


class PairReader(ImagePairs):
    """One split of a set of pairs of files: id -> (image file, file of the values). A layout is a sub-class that says how `target` is read.

    rule: whatever else decides the values, as text; it enters the fingerprint. remarks: what a record has to say of the data.
    reach: metres between which the median depth of any split lies, for `data check`; a sub-class that knows its sensor narrows it.
    """

    classes: tuple[str, ...] = ()
    sample: type[DepthSample] | type[NormalsSample] = DepthSample
    reach: tuple[float, float] = (0.05, 200.0)

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        pairs: Mapping[str, tuple[str, str]],
        *,
        rule: str,
        how: str,
        group: re.Pattern[str] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, split, root, pairs, how=how, group=group, no_target="an image has no file of its values")
        self.remarks = remarks
        self.fingerprint = digest(*self.ids, *self.image_bytes, *self.target_bytes, rule)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels that `load` gives, from the header of the image."""
        size = super().size(index)
        box = self.box(*size)
        return size if box is None else (box[0].stop - box[0].start, box[1].stop - box[1].start)

    def target(self, index: int) -> np.ndarray:
        """The values of a sample, at the size of its image file: depth_HW or normals_HW3."""
        raise NotImplementedError

    def box(self, height: int, width: int) -> Box | None:
        """The part of an image file that is the sample; None for the whole."""
        return None

    def intrinsics(self, index: int) -> Intrinsics | None:
        """The camera of a sample as `load` gives it, where the set tells it."""
        return None

    def load(self, index: int) -> Any:
        """Decode one sample. Errors: a broken or missing file, values of another size than the image."""
        image_HW3, target = self.image(index), self.target(index)
        self.check_sizes(index, image_HW3, target, "values")
        box = self.box(*target.shape[:2])
        if box is not None:
            image_HW3, target = image_HW3[box], target[box]
        return self.sample(self.ids[index], self.groups[index], image_HW3, target)


class DepthPairs(PairReader):
    """Depth maps as 16-bit greyscale PNG, 0 = unknown. scale: stored units in a metre."""

    def __init__(self, *arguments: Any, scale: float, rule: str = "", **options: Any) -> None:
        super().__init__(*arguments, rule=f"{scale!r} units a metre {rule}", **options)
        self.scale = scale

    def target(self, index: int) -> np.ndarray:
        """depth_HW, float32 metres."""
        return read_uint16(self.files(index)[1]).astype(np.float32) / np.float32(self.scale)


class NormalsPairs(PairReader):
    """Normals as 8-bit colour PNG, each channel round((n + 1) * 127.5), black where unknown; camera frame x right, y down, z forward."""

    sample = NormalsSample

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, rule="normals (n + 1) * 127.5", **options)

    def target(self, index: int) -> np.ndarray:
        """normals_HW3, float32 of length 1."""
        return decode_normals(read_png(self.files(index)[1]))


def decode_normals(stored_HW3: np.ndarray) -> np.ndarray:
    """normals_HW3, float32 of length 1, of bytes round((n + 1) * 127.5); 0 0 0 where black."""
    normals_HW3 = stored_HW3.astype(np.float32) / np.float32(127.5) - 1
    x_HW, y_HW, z_HW = np.moveaxis(normals_HW3, -1, 0)  # numpy adds planes in a tenth of the time of a short last axis
    normals_HW3 /= np.maximum(np.sqrt(x_HW * x_HW + y_HW * y_HW + z_HW * z_HW), np.float32(1e-6))[..., None]
    red_HW, green_HW, blue_HW = np.moveaxis(stored_HW3, -1, 0)
    normals_HW3[(red_HW | green_HW | blue_HW) == 0] = 0
    return normals_HW3


def read_png(path: Path) -> np.ndarray:
    """values_HW3, uint8, of a colour PNG. Errors: those of `read_image`; a JPEG, whose compression changes values."""
    values_HW3 = read_image(path)
    with path.open("rb") as file:
        if file.read(4) != b"\x89PNG":
            raise UserError("a JPEG where normals are expected: its compression changes the normals", where=path, fix="Save them as PNG.")
    return values_HW3
