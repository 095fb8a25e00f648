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
from tips_bench.data.images import image_size, read_image, read_uint16
from tips_bench.data.listing import file_sizes, group_of
from tips_bench.data.surface import Intrinsics
from tips_bench.errors import UserError
from tips_bench.files import digest

Box = tuple[slice, slice]


class PairReader:
    """One split of a set of pairs of files, its samples sorted by id. A layout is a sub-class that says how `target` is read.

    pairs: id -> (image file, file of the values). rule: whatever else decides the values, as text; it enters the fingerprint.
    group: a regular expression whose first group, found in an id, names what belongs together (frames of one scene); without it each
    sample is its own group. how: said where files are missing. remarks: what a record has to say of the data.
    reach: metres between which the median depth of any split lies, for `data check`; a sub-class that knows its sensor narrows it.
    Errors: a file that is missing, with the number of all that are; an id in which `group` finds nothing.
    """

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
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
        self.name, self.split, self.root, self.remarks = name, split, str(root), remarks
        self.ids = sorted(pairs)
        self.groups = list(self.ids) if group is None else [group_of(group, id) for id in self.ids]
        self._images = [pairs[id][0] for id in self.ids]
        self._targets = [pairs[id][1] for id in self.ids]
        image_sizes = file_sizes(self._images, "an image that the split names is missing", how)
        target_sizes = file_sizes(self._targets, "an image has no file of its values", how)
        self.fingerprint = digest(*self.ids, *image_sizes, *target_sizes, rule)

    def __len__(self) -> int:
        return len(self.ids)

    def files(self, index: int) -> tuple[Path, Path]:
        """(image file, file of the values) of a sample."""
        return Path(self._images[index]), Path(self._targets[index])

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels that `load` gives, from the header of the image."""
        size = image_size(Path(self._images[index]))
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
        image_path, target_path = self.files(index)
        image_HW3, target = read_image(image_path), self.target(index)
        if image_HW3.shape[:2] != target.shape[:2]:
            values, image = ("x".join(map(str, array.shape[:2])) for array in (target, image_HW3))
            problem = f"{values} values, but the image {image_path.name} is {image} (height x width)"
            raise UserError(problem, where=target_path, fix="Both must be of one size; get the pair again.")
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
    normals_HW3 /= np.maximum(np.linalg.norm(normals_HW3, axis=-1, keepdims=True), np.float32(1e-6))
    normals_HW3[~stored_HW3.any(axis=-1)] = 0
    return normals_HW3


def read_png(path: Path) -> np.ndarray:
    """values_HW3, uint8, of a colour PNG. Errors: those of `read_image`; a JPEG, whose compression changes values."""
    values_HW3 = read_image(path)
    with path.open("rb") as file:
        if file.read(4) != b"\x89PNG":
            raise UserError("a JPEG where normals are meant: its compression changes them", where=path, fix="Save them as PNG.")
    return values_HW3
