"""NAVI (V. Jampani et al., NeurIPS 2023): single objects with depth from aligned scans, as probe3d evaluates them.

    OBJECT/{multiview*,wild_set}/{annotations.json, images/000.jpg, depth/000.png, masks/000.png}

Either release is read: 1.0, as probe3d does, and 1.5, whose video scenes are passed over (google/navi 3fcfd40, README.md:8-33). Some
images are stored turned, with the turn in their EXIF data, and the depth is of the upright one (mbanani/probe3d a1f1464,
data_processing/resize_navi.py:45-47).

Trained on the multiview collections and tested on the ones in the wild; an object without either is left out, and every 4th image is
used (of the sorted list; probe3d takes the file system's order). Depth is stored as 655350 / millimetres in 16 bits, 0 = background.

An image becomes 512 x 512 as in probe3d (evals/datasets/navi.py, utils.py): short side to 512, the middle square, the square around the
object, and that stretched to 512 again. Depth is sampled at the nearest pixel throughout; the image is averaged over areas the first
time, where probe3d takes the nearest pixel of a half-size copy. Normals follow from depth before the last step, with the principal
point in the middle of the image; probe3d leaves it at the crop's corner, which shears them.

Axes: H W pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import DepthSample, NormalsSample
from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth
from tips_bench.data.dataset_files import files_below
from tips_bench.data.images import read_image, read_uint16
from tips_bench.data.pixel_values import Box, PairReader
from tips_bench.errors import UserError, unknown_name

SIZE = 512
INVERSE = (2**16 - 1) * 10 / 1000  # stored value x metres, of NAVI's data_util.py
FOLDERS = ("", "navi_v1", "navi_v1.0", "navi_v1.5")  # of the objects, as the archives and probe3d's configuration name them
COLLECTIONS = {"train": "multiview", "test": "wild_set"}


class NaviOptions(Strict):
    """every: one of so many images is used. prefix: "downsampled_" where images and depth were made smaller by probe3d's script."""

    every: int = Field(4, gt=0)
    prefix: str = ""


@dataclass(frozen=True)
class View:
    """One image: its files, and its camera's focal length in pixels for a height and width."""

    image: str
    depth: str
    focal: float
    size: tuple[int, int]


def navi_depth(root: str | Path, split: str, **options: Any) -> NaviReader:
    """NAVI with depth. Splits: train (multiview), test (in the wild); images of one object are a group."""
    return _open("navi-depth", NaviReader, root, split, options)


def navi_normals(root: str | Path, split: str, **options: Any) -> NaviReader:
    """NAVI with normals that follow from its depth. Splits: train (multiview), test (in the wild)."""
    return _open("navi-normals", NaviNormals, root, split, options)


class NaviReader(PairReader):
    """Objects with depth, 512 x 512."""

    reach = (0.05, 5.0)

    def __init__(self, name: str, split: str, root: Path, views: dict[str, View], *, rule: str, how: str) -> None:
        super().__init__(name, split, root, {id: (view.image, view.depth) for id, view in views.items()}, rule=rule, how=how)
        self.groups = [id.split("/")[0] for id in self.ids]
        self._views = views

    def size(self, index: int) -> tuple[int, int]:
        """(512, 512)."""
        return SIZE, SIZE

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera of a sample as `load` gives it."""
        depth_HW = self._depth(index)
        return self._camera(index, depth_HW.shape).boxed(*object_box(self._square(depth_HW))).resized(SIZE, SIZE)

    def load(self, index: int) -> DepthSample | NormalsSample:
        """Decode one sample. Errors: a broken or missing file, a depth map of another shape than the image, one without an object."""
        image_HW3, depth_HW = read_image(self.files(index)[0]), self._depth(index)
        if image_HW3.shape[:2] != depth_HW.shape:
            sizes = f"the depth map is {depth_HW.shape} and the image {image_HW3.shape[:2]} (height, width)"
            raise UserError(sizes, where=self.files(index)[1], fix="Get the pair again.")
        small_HW = self._square(depth_HW)
        if not small_HW.any():
            raise UserError("no pixel in the central square has a depth value", where=self.files(index)[1], fix="Get the file again.")
        box = object_box(small_HW)
        image_HW3 = _square(cv2.resize(image_HW3, _short(depth_HW.shape)[::-1], interpolation=cv2.INTER_AREA))
        target = self.values(small_HW[box], self._camera(index, depth_HW.shape).boxed(*box))
        return self.sample(self.ids[index], self.groups[index], nearest(image_HW3[box], (SIZE, SIZE)), nearest(target, (SIZE, SIZE)))

    def values(self, depth_HW: np.ndarray, camera: Intrinsics) -> np.ndarray:
        """What is scored, of the crop around the object."""
        return depth_HW

    def _depth(self, index: int) -> np.ndarray:
        """depth_HW, float32 metres, at the file's size."""
        stored_HW = read_uint16(self.files(index)[1]).astype(np.float32)
        return np.divide(np.float32(INVERSE), stored_HW, out=np.zeros_like(stored_HW), where=stored_HW > 0)

    def _square(self, depth_HW: np.ndarray) -> np.ndarray:
        return _square(nearest(depth_HW, _short(depth_HW.shape)))

    def _camera(self, index: int, size: tuple[int, int]) -> Intrinsics:
        """Of the middle square, whose principal point NAVI puts in the middle of the image."""
        view = self._views[self.ids[index]]
        focal = view.focal * SIZE / min(view.size)
        return Intrinsics(focal, focal, SIZE / 2, SIZE / 2, SIZE, SIZE)


class NaviNormals(NaviReader):
    """Objects with normals, 512 x 512."""

    sample = NormalsSample

    def values(self, depth_HW: np.ndarray, camera: Intrinsics) -> np.ndarray:
        return normals_from_depth(depth_HW, camera)


def nearest(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Values at (height, width), each the one at floor(i * old / new), as torch's nearest interpolation takes them."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, values.shape, strict=False))
    return values[rows[:, None], columns[None, :]]


def object_box(depth_HW: np.ndarray) -> Box:
    """The square around what has depth, moved inside the image where centring it leads out (probe3d's bbox_crop)."""
    tops, lefts = np.flatnonzero(depth_HW.any(axis=1)), np.flatnonzero(depth_HW.any(axis=0))
    first, last = np.array([tops[0], lefts[0]]), np.array([tops[-1], lefts[-1]])
    side = max(1, int((last - first).max()))
    pad = side - (last - first)
    start = first - pad // 2
    if (start < 0).any() or (start + side > depth_HW.shape).any():
        start = np.maximum(first - pad, 0)
    top, left = (int(value) for value in start)
    return slice(top, min(top + side, depth_HW.shape[0])), slice(left, min(left + side, depth_HW.shape[1]))


def _short(size: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) with a short side of 512, the longer rounded down as torchvision does."""
    height, width = size[:2]
    short = min(height, width)
    return height * SIZE // short, width * SIZE // short


def _square(values: np.ndarray) -> np.ndarray:
    """The middle 512 x 512, with torchvision's rounding."""
    top, left = (round((side - SIZE) / 2) for side in values.shape[:2])
    return values[top : top + SIZE, left : left + SIZE]


def _open(name: str, kind: type[NaviReader], root: str | Path, split: str, options: dict[str, Any]) -> NaviReader:
    chosen = parse(NaviOptions, options, where="data.options")
    if split not in COLLECTIONS:
        raise unknown_name("split", split, COLLECTIONS, where=name)
    root, how = Path(root), load_card("task", name).how_to_get
    found = ((folder, views_of(root / folder, split, chosen.prefix)) for folder in FOLDERS)
    place, views = next(((folder, views) for folder, views in found if views), ("", {}))
    if not views:
        problem = "there is no such folder" if not root.is_dir() else "the files are not in the layout of NAVI"
        wanted = f"OBJECT/{COLLECTIONS[split]}*/annotations.json, images/{chosen.prefix}000.jpg, depth/{chosen.prefix}000.png"
        raise UserError(f"{problem}; looked for {wanted}", where=root, fix=how)
    used = dict(list(views.items())[:: chosen.every])
    rule = f"1/{chosen.every} {chosen.prefix} {SIZE} {' '.join(repr(view.focal) for view in used.values())}"
    reader = kind(name, split, root, used, rule=rule, how=how)
    video = any((root / place).glob("*/video*"))
    reader.layout = f"NAVI {'1.5, without its video scenes' if video else '1.0'}, objects in {place or '.'}/"
    return reader


def views_of(root: Path, split: str, prefix: str) -> dict[str, View]:
    """id (OBJECT/COLLECTION/NUMBER) -> view, sorted, of all objects that have multiview collections and one in the wild."""
    found: dict[str, View] = {}
    for thing in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []:
        collections = sorted(path for path in thing.iterdir() if (path / "annotations.json").is_file())
        kinds = {kind for kind in COLLECTIONS.values() for path in collections if path.name.startswith(kind)}
        if len(kinds) < len(COLLECTIONS):
            continue
        for folder in (path for path in collections if path.name.startswith(COLLECTIONS[split])):
            cameras = read_annotations(folder / "annotations.json")
            for number, image in sorted(files_below(folder / "images", (".jpg",)).items()):
                if not number.startswith(prefix) or (not prefix and "_" in number):
                    continue
                plain = number.removeprefix(prefix)
                if plain not in cameras:
                    problem = f"there is no entry for {plain}.jpg"
                    raise UserError(problem, where=folder / "annotations.json", fix="Get the collection again.")
                focal, size = cameras[plain]
                found[f"{thing.name}/{folder.name}/{plain}"] = View(image, f"{folder}/depth/{number}.png", focal, size)
    return found


def read_annotations(path: Path) -> dict[str, tuple[float, tuple[int, int]]]:
    """File stem -> (focal length in pixels, (height, width)). Errors: a file that is not NAVI's."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(entry["filename"]).split(".")[0]: (
                float(entry["camera"]["focal_length"]),
                (int(entry["image_size"][0]), int(entry["image_size"][1])),
            )
            for entry in data
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(f"not NAVI's annotations: {error!r}", where=path, fix="Get the collection again.") from error
