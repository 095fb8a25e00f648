"""NYU Depth V2 as Probe3D trains and tests on it: GeoNet's frames, and the labelled test images, both cut to their middle.

GeoNet (X. Qi et al., CVPR 2018) made depth and normals for 30,816 frames (nyu_geonet/*.mat): img is the image less twice its mean, depth in
metres, norm outward. As mbanani/probe3d 1fff822 does it (evals/datasets/nyu.py:70-218, configs/dataset/nyu.yaml:6): arrays are cut to
480 x 640, two broken files are left out, and of every image, to train and to test, the middle 480 x 480 pixels are seen. Pixels are known
where depth, the sensor's own in the test images, is above 0 and at most 10 m; for normals that is the mask of both (train_snorm.py:81,127).

Axes: H W pixels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import DepthSample, NormalsSample
from tips_bench.data.camera_geometry import Intrinsics
from tips_bench.data.matlab import read_array
from tips_bench.data.nyu import CAMERA, REACH, NyuLabelled
from tips_bench.data.nyu_normals import AXES, NyuNormals, NyuNormalsOptions, parse_axes
from tips_bench.data.pixel_values import PairReader
from tips_bench.errors import UserError
from tips_bench.files import digest

# What GeoNet took away from red, green and blue, and the places of two broken files in the sorted list.
MEAN, BROKEN, FILES = np.array([122.175, 116.169, 103.508]) * 2, (6919, 21181), 30816
MIDDLE = slice(0, 480), slice(80, 560)
FARTHEST = 10.0  # metres
RULE = "the middle 480 x 480, known where depth is in (0, 10] m"


class GeonetOptions(Strict):
    """axes: of GeoNet's stored normals, as in NyuNormalsOptions. test: the options of the labelled images, which are tested on."""

    axes: str = AXES["array"]
    test: NyuNormalsOptions = NyuNormalsOptions()


def nyu_geonet(root: str | Path, split: str, **options: Any) -> GeonetNormals | LabelledNormals:
    """Normals: GeoNet's frames to train on (split "geonet"), and the labelled images of splits.mat to test (split "test")."""
    chosen = parse(GeonetOptions, options, where="data.options")
    how = load_card("task", "nyu-normals").how_to_get
    if split != "geonet":
        return LabelledNormals("nyu-geonet", root, split, how, chosen.test.source, chosen.test.axes)
    return GeonetNormals(root, chosen.axes, how)


def nyu_geonet_depth(root: str | Path, split: str, **options: Any) -> GeonetDepth | LabelledDepth:
    """Depth: GeoNet's frames to train on (split "geonet"), and the labelled images of splits.mat to test (split "test")."""
    parse(Strict, options, where="data.options")
    how = load_card("task", "nyu-depth-geonet").how_to_get
    return GeonetDepth(root, how) if split == "geonet" else LabelledDepth("nyu-geonet-depth", root, split, how)


class Geonet(PairReader):
    """Images with depth and normals in a .mat each; frames whose names differ by their last number only are a group."""

    def __init__(self, name: str, root: str | Path, rule: str, how: str) -> None:
        paths = sorted((Path(root) / "nyu_geonet").glob("*.mat"))
        if not paths:
            raise UserError("there is no file of GeoNet; looked for nyu_geonet/*.mat", where=root, fix=how)
        if len(paths) == FILES:
            paths = [path for place, path in enumerate(paths) if place not in BROKEN]
        pairs = {path.stem: (str(path), str(path)) for path in paths}
        group = re.compile(r"^(.*?)(?:[_-]?\d+)?$")
        super().__init__(name, "geonet", Path(root), pairs, rule=f"{rule}; {RULE}", how=how, group=group)

    def size(self, index: int) -> tuple[int, int]:
        """(480, 480)."""
        return 480, 480

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera that took all images."""
        return CAMERA.boxed(*MIDDLE)

    def image(self, index: int) -> np.ndarray:
        """image_HW3, uint8."""
        return np.clip(np.rint(self._array(index, "img", 3) + MEAN), 0, 255).astype(np.uint8)

    def depth(self, index: int) -> np.ndarray:
        """depth_HW, float32 metres, 0 where it is not known."""
        return near(self._array(index, "depth", 2))

    def _array(self, index: int, name: str, axes: int) -> np.ndarray:
        """Its middle. Errors: a file that is not GeoNet's, or truncated."""
        path = self.files(index)[0]
        found = read_array(path, name)
        if found.ndim != axes or found.shape[0] < 480 or found.shape[1] < 640 or found.shape[2:] not in ((), (3,)):
            problem = f"{name} is {' x '.join(map(str, found.shape))}, not 480 x 640{' x 3' * (axes == 3)}"
            raise UserError(problem, where=path, fix="Get it again.")
        return found[:480, :640][MIDDLE]


class GeonetDepth(Geonet):
    """GeoNet's frames with depth."""

    reach = REACH

    def __init__(self, root: str | Path, how: str) -> None:
        super().__init__("nyu-geonet-depth", root, "geonet depth", how)

    def load(self, index: int) -> DepthSample:
        """One image with its depth. Errors: a file that is not GeoNet's, or truncated."""
        return DepthSample(self.ids[index], self.groups[index], self.image(index), self.depth(index))


class GeonetNormals(Geonet):
    """GeoNet's frames with normals. axes: of the stored vectors."""

    sample = NormalsSample

    def __init__(self, root: str | Path, axes: str, how: str) -> None:
        super().__init__("nyu-geonet", root, f"geonet {axes}", how)
        self._order, self._signs = parse_axes(axes)

    def load(self, index: int) -> NormalsSample:
        """One image with its normals. Errors: a file that is not GeoNet's, or truncated."""
        normals_HW3 = self._array(index, "norm", 3)
        length_HW1 = np.linalg.norm(normals_HW3, axis=-1, keepdims=True)
        known_HW1 = np.isfinite(length_HW1) & (length_HW1 > 0.5) & (self.depth(index) > 0)[..., None]
        unit_HW3 = np.where(known_HW1, normals_HW3, 0) / np.where(known_HW1, length_HW1, 1)
        turned_HW3 = (unit_HW3[..., self._order] * self._signs).astype(np.float32)
        return NormalsSample(self.ids[index], self.groups[index], self.image(index), turned_HW3)


class LabelledDepth(NyuLabelled):
    """The middle of the labelled images, with the sensor's own depth."""

    def __init__(self, name: str, root: str | Path, split: str, how: str) -> None:
        super().__init__(name, root, split, how)
        self.fingerprint = digest(self.fingerprint, RULE)

    def size(self, index: int) -> tuple[int, int]:
        """(480, 480)."""
        return 480, 480

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera that took all images."""
        return CAMERA.boxed(*MIDDLE)

    def load(self, index: int) -> DepthSample:
        """One image with its depth. Errors: a part of the file that cannot be read."""
        depth_HW = near(self.depth(index)[MIDDLE])
        return DepthSample(self.ids[index], self.groups[index], np.ascontiguousarray(self.image(index)[MIDDLE]), depth_HW)


class LabelledNormals(NyuNormals):
    """The middle of the labelled images, with the normals of its source where the sensor saw a depth."""

    def __init__(self, name: str, root: str | Path, split: str, how: str, source: str, axes: str | None) -> None:
        super().__init__(root, split, how, source, axes, name=name)
        self.fingerprint = digest(self.fingerprint, RULE)

    def size(self, index: int) -> tuple[int, int]:
        """(480, 480)."""
        return 480, 480

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera that took all images."""
        return CAMERA.boxed(*MIDDLE)

    def load(self, index: int) -> NormalsSample:
        """One image with its normals. Errors: a broken or missing file."""
        seen_HW = near(np.nan_to_num(self._array("rawDepths", index).T[MIDDLE])) > 0
        normals_HW3 = np.where(seen_HW[..., None], self.normals(index)[MIDDLE], np.float32(0))
        return NormalsSample(self.ids[index], self.groups[index], np.ascontiguousarray(self.image(index)[MIDDLE]), normals_HW3)


def near(depth_HW: np.ndarray) -> np.ndarray:
    """The depth, float32, 0 where it is not finite, not above 0 or above 10 m."""
    known_HW = np.isfinite(depth_HW) & (depth_HW > 0) & (depth_HW <= FARTHEST)
    return np.where(known_HW, depth_HW, 0).astype(np.float32)
