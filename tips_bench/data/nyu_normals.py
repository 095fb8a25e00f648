"""Surface normals of NYU Depth V2's labelled images.

The truth is that of L. Ladicky, B. Zeisl, M. Pollefeys (ECCV 2014), beside nyu_depth_v2_labeled.mat and splits.mat, as one of

    normals_gt/normals/0000.png, normals_gt/masks/0000.png, ...    D. Eigen's normals_gt.tgz, numbers from 0 on
    all_normals.npy, all_valid_depth_masks.npy                     the arrays of FAIR's nyuv2_surfacenormal_metadata.zip

or, where neither is there, normals that follow from the filled depth; a record then says so, and such numbers do not compare with
published ones. FAIR's file is a Python pickle, which may run anything; it is not read: `how_to_get` of the task converts it once.

`nyu-normals-geonet` trains on the 30,816 frames with normals of GeoNet (X. Qi et al., CVPR 2018; nyu_geonet/*.mat), as probe3d does, which
reads them so: img is the image less twice its mean, depth in metres, norm outward, all cut to 480 x 640, and two broken files left out.

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
from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth
from tips_bench.data.images import read_mask
from tips_bench.data.matlab import read_array
from tips_bench.data.nyu import CAMERA, NyuLabelled
from tips_bench.data.pixel_values import PairReader, read_png
from tips_bench.errors import UserError
from tips_bench.files import digest

PNGS, ARRAY, MASKS = "normals_gt/normals", "all_normals.npy", "all_valid_depth_masks.npy"
AXES = {"png": "+x+y-z", "array": "-x-y-z", "depth": "+x+y+z"}
FROM_DEPTH = "the normals follow from the filled depth, not from Ladicky's set: these numbers do not compare with published ones"


# What GeoNet took away from red, green and blue, and the places of two broken files in the sorted list (probe3d evals/datasets/nyu.py).
GEONET_MEAN, GEONET_BROKEN, GEONET_FILES = np.array([122.175, 116.169, 103.508]) * 2, (6919, 21181), 30816


class NyuNormalsOptions(Strict):
    """source: where the truth comes from; "auto" takes the first that is there. axes: signed stored axes, in our order, like "+x+y-z"."""

    source: Literal["auto", "png", "array", "depth"] = "auto"
    axes: str | None = None


def nyu_normals(root: str | Path, split: str, **options: Any) -> NyuNormals:
    """NYU Depth V2's labelled images with normals. Splits: train, test, as in splits.mat."""
    chosen = parse(NyuNormalsOptions, options, where="data.options")
    return NyuNormals(root, split, load_card("task", "nyu-normals").how_to_get, chosen.source, chosen.axes)


class NyuNormals(NyuLabelled):
    """A split of the labelled set with normals. source: "png", "array" or "depth". Errors: those of NyuLabelled, and of the source."""

    def __init__(self, root: str | Path, split: str, how: str, source: str, axes: str | None) -> None:
        super().__init__("nyu-normals", root, split, how, depth="filled")
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
            return normals_from_depth(self.depth(index), self.intrinsics(index))
        stored_HW3, known_HW = self._png(index) if self._arrays is None else self._array_of(index, *self._arrays)
        if stored_HW3.shape[:2] != self.size(index) or known_HW.shape != self.size(index):
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


class GeonetOptions(Strict):
    """axes: as in NyuNormalsOptions."""

    axes: str = AXES["array"]


def nyu_geonet(root: str | Path, split: str, **options: Any) -> Geonet | NyuNormals:
    """GeoNet's frames with normals to train on (split "geonet"), and the labelled images of splits.mat to test."""
    chosen = parse(GeonetOptions, options, where="data.options")
    if split != "geonet":
        return nyu_normals(root, split)
    how = load_card("task", "nyu-normals-geonet").how_to_get
    folder = Path(root) / "nyu_geonet"
    paths = sorted(folder.glob("*.mat"))
    if not paths:
        raise UserError("there is no file of GeoNet; looked for nyu_geonet/*.mat", where=root, fix=how)
    if len(paths) == GEONET_FILES:
        paths = [path for place, path in enumerate(paths) if place not in GEONET_BROKEN]
    return Geonet("nyu-geonet", split, Path(root), {path.stem: (str(path), str(path)) for path in paths}, chosen.axes, how)


class Geonet(PairReader):
    """Images and normals in a .mat each; frames whose names differ by their last number only are a group."""

    sample = NormalsSample

    def __init__(self, name: str, split: str, root: Path, pairs: dict[str, tuple[str, str]], axes: str, how: str) -> None:
        super().__init__(name, split, root, pairs, rule=f"geonet {axes}", how=how, group=re.compile(r"^(.*?)(?:[_-]?\d+)?$"))
        self._order, self._signs = parse_axes(axes)

    def size(self, index: int) -> tuple[int, int]:
        """(480, 640)."""
        return CAMERA.height, CAMERA.width

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera that took all images."""
        return CAMERA

    def load(self, index: int) -> NormalsSample:
        """One image with its normals. Errors: a file that is not GeoNet's, or truncated."""
        path = self.files(index)[0]
        image_HW3, normals_HW3 = (read_array(path, name)[:480, :640] for name in ("img", "norm"))
        if image_HW3.shape != (480, 640, 3) or normals_HW3.shape != (480, 640, 3):
            raise UserError(f"img is {image_HW3.shape} and norm {normals_HW3.shape}, not 480 x 640 x 3", where=path, fix="Get it again.")
        length_HW1 = np.linalg.norm(normals_HW3, axis=-1, keepdims=True)
        known_HW1 = np.isfinite(length_HW1) & (length_HW1 > 0.5)
        unit_HW3 = np.where(known_HW1, normals_HW3, 0) / np.where(known_HW1, length_HW1, 1)
        image_HW3 = np.clip(np.rint(image_HW3 + GEONET_MEAN), 0, 255).astype(np.uint8)
        return NormalsSample(self.ids[index], self.groups[index], image_HW3, (unit_HW3[..., self._order] * self._signs).astype(np.float32))


def parse_axes(axes: str) -> tuple[list[int], np.ndarray]:
    """(order, signs) that turn stored vectors into our frame: stored[..., order] * signs. Errors: not three different signed axes."""
    parts = re.findall(r"([+-])([xyz])", axes)
    if "".join(sign + axis for sign, axis in parts) != axes or sorted(axis for _, axis in parts) != ["x", "y", "z"]:
        raise UserError(f"axes = {axes!r}: not three signed axes", where="data.options", fix='Write for example "+x+y-z".')
    return ["xyz".index(axis) for _, axis in parts], np.array([1.0 if sign == "+" else -1.0 for sign, _ in parts])
