"""Surface normals of NYU Depth V2's labelled images.

The truth is that of L. Ladicky, B. Zeisl, M. Pollefeys (ECCV 2014), beside nyu_depth_v2_labeled.mat and splits.mat, as one of

    normals_gt/normals/0000.png, normals_gt/masks/0000.png, ...    D. Eigen's normals_gt.tgz, numbers from 0 on
    all_normals.npy, all_valid_depth_masks.npy                     the arrays of FAIR's nyuv2_surfacenormal_metadata.zip

or, where neither is there, normals that follow from the filled depth; a record then says so, and such numbers do not compare with
published ones. FAIR's file is a Python pickle, which may run anything; it is not read: `how_to_get` of the task converts it once.

Stored axes differ: the .png have z towards the camera (I. Armeni et al., 2D-3D-S, follow that colouring: red to the right, green
downwards, blue towards the camera); the arrays have outward normals. `axes` says what a stored vector is in our frame (x right, y down,
z forward, towards the camera), and `data check` compares it with the depth.

Axes: H W pixels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import NormalsSample
from tips_bench.data.camera_geometry import normals_from_depth
from tips_bench.data.images import read_mask
from tips_bench.data.nyu import CAMERA, NyuLabelled
from tips_bench.data.pixel_values import read_png
from tips_bench.errors import UserError
from tips_bench.files import digest

PNGS, ARRAY, MASKS = "normals_gt/normals", "all_normals.npy", "all_valid_depth_masks.npy"
AXES = {"png": "+x+y-z", "array": "-x-y-z", "depth": "+x+y+z"}
FROM_DEPTH = "the normals follow from the filled depth, not from Ladicky's set: these numbers do not compare with published ones"


class NyuNormalsOptions(Strict):
    """source: where the truth comes from; "auto" takes the first that is there. axes: signed stored axes, in our order, like "+x+y-z"."""

    source: Literal["auto", "png", "array", "depth"] = "auto"
    axes: str | None = None


def nyu_normals(root: str | Path, split: str, **options: Any) -> NyuNormals:
    """NYU Depth V2's labelled images with normals. Splits: train, test, as in splits.mat."""
    chosen = parse(NyuNormalsOptions, options, where="data.options")
    return NyuNormals(root, split, load_card("task", "nyu-normals-labelled").how_to_get, chosen.source, chosen.axes)


class NyuNormals(NyuLabelled):
    """A split of the labelled set with normals. source: "png", "array" or "depth". Errors: those of NyuLabelled, and of the source."""

    def __init__(self, root: str | Path, split: str, how: str, source: str, axes: str | None, *, name: str = "nyu-normals") -> None:
        super().__init__(name, root, split, how, depth="filled")
        self.folder = Path(root)
        there = {"png": (self.folder / PNGS).is_dir(), "array": (self.folder / ARRAY).is_file(), "depth": True}
        self.source = next(name for name in there if there[name]) if source == "auto" else source
        if not there[self.source]:
            wanted = f"{PNGS}/*.png" if self.source == "png" else f"{ARRAY} and {MASKS}"
            raise UserError(f"there are no normals of source {self.source!r}; looked for {wanted}", where=root, fix=how)
        self.axes = axes or AXES[self.source]
        self._order, self._signs = parse_axes(self.axes)
        self._arrays = self._open_arrays() if self.source == "array" else None
        self.remarks = (FROM_DEPTH,) if self.source == "depth" else ()
        self.fingerprint = digest(self.fingerprint, self.source, self.axes)

    def sources(self, index: int) -> list[Path]:
        """The files that a sample is read from."""
        truth = {"png": self._pngs(index), "array": [self.folder / ARRAY, self.folder / MASKS], "depth": []}
        return [*super().sources(index), *truth[self.source]]

    def load(self, index: int) -> NormalsSample:
        """One image with its normals. Errors: a broken or missing file."""
        return NormalsSample(self.ids[index], self.groups[index], self.image(index), self.normals(index))

    def normals(self, index: int) -> np.ndarray:
        """normals_HW3, float32, of length 1, 0 0 0 where the source's mask has nothing."""
        if self.source == "depth":
            return normals_from_depth(self.depth(index), CAMERA)
        stored_HW3, known_HW = self._png(index) if self._arrays is None else self._array_of(index, *self._arrays)
        if stored_HW3.shape[:2] != (480, 640) or known_HW.shape != (480, 640):
            problem = f"the normals of image {self.ids[index]} are {stored_HW3.shape[:2]}, their mask {known_HW.shape}, not 480x640"
            raise UserError(problem, where=self.folder, fix="Get the set again.")
        length_HW1 = np.linalg.norm(stored_HW3, axis=-1, keepdims=True)
        known_HW = known_HW & np.isfinite(length_HW1[..., 0]) & (length_HW1[..., 0] > 0.5)
        normals_HW3 = np.where(known_HW[..., None], stored_HW3, 0) / np.where(known_HW[..., None], length_HW1, 1)
        return (normals_HW3[..., self._order] * self._signs).astype(np.float32)

    def _pngs(self, index: int) -> list[Path]:
        """The file of the normals and that of their mask."""
        name = f"{self.numbers[index] - 1:04d}.png"
        return [self.folder / PNGS / name, self.folder / "normals_gt/masks" / name]

    def _png(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        normals, mask = self._pngs(index)
        return read_png(normals).astype(np.float32) / np.float32(127.5) - 1, read_mask(mask) > 0

    def _array_of(self, index: int, normals: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(normals[self.numbers[index] - 1], dtype=np.float32), np.asarray(masks[self.numbers[index] - 1]) > 0

    def _open_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for name in (ARRAY, MASKS):
            try:
                found.append(np.load(self.folder / name, mmap_mode="r", allow_pickle=False))
            except (OSError, ValueError, EOFError) as error:
                raise UserError(f"not an array of numbers, or truncated: {error}", where=self.folder / name, fix=self.how) from error
        if found[0].ndim != 4 or found[0].shape[-1] != 3 or found[1].shape != found[0].shape[:3] or len(found[0]) < max(self.numbers):
            problem = f"arrays of {found[0].shape} normals and {found[1].shape} masks, not N x 480 x 640"
            raise UserError(problem, where=self.folder / ARRAY, fix=self.how)
        return found[0], found[1]


def parse_axes(axes: str) -> tuple[list[int], np.ndarray]:
    """(order, signs) that turn stored vectors into our frame: stored[..., order] * signs. Errors: not three different signed axes."""
    parts = re.findall(r"([+-])([xyz])", axes)
    if "".join(sign + axis for sign, axis in parts) != axes or sorted(axis for _, axis in parts) != ["x", "y", "z"]:
        raise UserError(f"axes = {axes!r}: not three signed axes", where="data.options", fix='Write for example "+x+y-z".')
    return ["xyz".index(axis) for _, axis in parts], np.array([1.0 if sign == "+" else -1.0 for sign, _ in parts])
