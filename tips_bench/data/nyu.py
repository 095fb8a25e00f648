"""NYU Depth V2 (N. Silberman, D. Hoiem, P. Kohli, R. Fergus, ECCV 2012): the split of BTS in folders, and the labelled set in its .mat.

`nyu-depth` reads 24,231 frames of the training scenes and the 654 labelled test images, as BTS (sync/, official_splits/test/) or
DINOv2 and the Monocular-Depth-Estimation-Toolbox (everything in one folder) lay them out; depth is in 16-bit millimetres.
`nyu-labelled` reads nyu_depth_v2_labeled.mat, an HDF5 file, with the official splits.mat: 795 and 654 images. Its raw depth has
holes; `depth: filled` takes the in-painted one. BTS's test images are these, raw, with a black border outside rows 7-473 and columns
7-631; that border is not drawn here.

Axes: H W pixels.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import DepthSample, NormalsSample
from tips_bench.data.camera_geometry import Intrinsics
from tips_bench.data.matlab import read_array
from tips_bench.data.pixel_values import DepthPairs, PairReader
from tips_bench.data.split_lists import ListedSplit, choose, found_in, read_listed, under
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

# The colour camera of the set's toolbox (camera_params.m), whose pixel centres have whole numbers from 1 on: 0.5 less here.
CAMERA = Intrinsics(518.85790117450188, 519.46961112127485, 325.58244941119034 - 0.5, 253.73616633400465 - 0.5, 480, 640)
# The toolbox's archive holds the folders train and test, whose scenes its documentation then moves up.
TRAIN, TEST = ("", "train", "sync"), ("", "test", "official_splits/test")
SPLITS = {
    "train": (
        ListedSplit("nyu_train.txt", TRAIN, TRAIN),
        ListedSplit("nyudepthv2_train_files_with_gt.txt", ("sync", *TRAIN), ("sync", *TRAIN)),
    ),
    "test": (
        ListedSplit("nyu_test.txt", TEST, TEST),
        ListedSplit("nyudepthv2_test_files_with_gt.txt", ("official_splits/test", *TEST), ("official_splits/test", *TEST)),
    ),
}
REACH = (0.5, 10.0)  # metres, of a Kinect
MAT, OFFICIAL = "nyu_depth_v2_labeled.mat", "splits.mat"
ARRAYS = {"images": (3, 640, 480), "depths": (640, 480), "rawDepths": (640, 480)}  # of one image, as MATLAB's order reads in HDF5
# What h5py raises for a file that is cut short or whose bytes are not what they claim.
BROKEN = (OSError, KeyError, RuntimeError, ValueError, TypeError)
SCENE = re.compile(r"^(.*?_\d{4})[a-z]?$")  # kitchen_0028b is a part of kitchen_0028


class NyuFolder(DepthPairs):
    """Depth in millimetres; one camera took all images."""

    reach = REACH

    def intrinsics(self, index: int) -> Intrinsics | None:
        return CAMERA


def nyu_depth(root: str | Path, split: str, **options: Any) -> PairReader:
    """NYU Depth V2 as BTS splits it. Splits: train (frames of a scene are one group), test."""
    _no_options(options, "nyu-depth")
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="nyu-depth")
    root, how = Path(root), load_card("task", "nyu-depth").how_to_get
    layout = choose(root, SPLITS[split], f"the {split} split of NYU Depth V2", how)
    names = {str(Path(line.image).with_suffix("")): (line.image, line.depth) for line in read_listed(root / layout.listing) if line.depth}
    pairs = {id: (under(root, layout.images, image), under(root, layout.depths, depth)) for id, (image, depth) in names.items()}
    group = re.compile(r"^(.*?)[a-z]?/[^/]+$") if split == "train" else None
    reader = NyuFolder("nyu-depth", split, root, pairs, scale=1000.0, how=how, group=group)
    reader.layout = found_in(root, layout.listing, pairs, names)
    return reader


class LabeledOptions(Strict):
    """depth: "raw" as the sensor gave it, with holes, or "filled", in-painted by the set's authors."""

    depth: Literal["raw", "filled"] = "raw"


def nyu_labelled(root: str | Path, split: str, **options: Any) -> NyuLabelled:
    """NYU Depth V2's labelled images with their depth, from the .mat. Splits: train, test, as in splits.mat."""
    chosen = parse(LabeledOptions, options, where="data.options")
    return NyuLabelled("nyu-labelled", root, split, load_card("task", "nyu-labelled").how_to_get, chosen.depth)


class NyuLabelled:
    """A split of the labelled set; ids are image numbers from 0001 on, groups are scenes.

    Errors: no .mat or no splits.mat, a file that is not what its name says, or truncated.
    """

    classes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    reach = REACH

    def __init__(self, name: str, root: str | Path, split: str, how: str, depth: Literal["raw", "filled"] = "raw") -> None:
        self.name, self.split, self.root, self.how = name, split, str(root), how
        self._depths = "rawDepths" if depth == "raw" else "depths"
        self.path = Path(root) / MAT
        missing = [file for file in (MAT, OFFICIAL) if not (Path(root) / file).is_file()]
        if missing:
            raise UserError(f"there is no {' and no '.join(missing)}; looked for {MAT} and {OFFICIAL}", where=root, fix=how)
        self._open: dict[int, Any] = {}
        data = self._file()
        self.numbers = official_split(Path(root) / OFFICIAL, split, len(data["images"]))
        scenes = self._scenes(data)
        self.ids = [f"{number:04d}" for number in self.numbers]
        self.groups = [scenes[number - 1] for number in self.numbers]
        self.fingerprint = digest(*self.ids, self.path.stat().st_size, self._depths)

    def __len__(self) -> int:
        return len(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a worker opens the file for itself

    def sources(self, index: int) -> list[Path]:
        """The files that a sample is read from."""
        return [self.path]

    def size(self, index: int) -> tuple[int, int]:
        """(480, 640)."""
        return CAMERA.height, CAMERA.width

    def intrinsics(self, index: int) -> Intrinsics:
        """The camera that took all images."""
        return CAMERA

    def image(self, index: int) -> np.ndarray:
        """image_HW3, uint8."""
        return np.ascontiguousarray(self._array("images", index).transpose(2, 1, 0))

    def depth(self, index: int) -> np.ndarray:
        """depth_HW, float32 metres, 0 where the sensor saw nothing."""
        depth_HW = np.ascontiguousarray(self._array(self._depths, index).T, dtype=np.float32)
        return np.where(np.isfinite(depth_HW), depth_HW, np.float32(0))

    def load(self, index: int) -> DepthSample | NormalsSample:
        """One image with its depth. Errors: a part of the file that cannot be read."""
        return DepthSample(self.ids[index], self.groups[index], self.image(index), self.depth(index))

    def _array(self, name: str, index: int) -> np.ndarray:
        try:
            return self._file()[name][self.numbers[index] - 1]
        except BROKEN as error:
            raise UserError(f"image {self.ids[index]} cannot be read: {error}", where=self.path, fix="Fetch it again.") from error

    def _file(self) -> Any:
        """The open file, one handle for each process."""
        if os.getpid() not in self._open:
            self._open[os.getpid()] = _open_mat(self.path)
        return self._open[os.getpid()]

    def _scenes(self, data: Any) -> list[str]:
        """The scene of every image, without the letter of its part."""
        try:
            names = ["".join(map(chr, data[reference][:].ravel())) for reference in data["scenes"][:].ravel()]
        except BROKEN as error:
            raise UserError("its list of scenes cannot be read", where=self.path, fix="Fetch it again.") from error
        found = [SCENE.match(name) for name in names]
        return [match[1] if match else name for match, name in zip(found, names, strict=True)]


def official_split(path: Path, split: str, images: int) -> list[int]:
    """Image numbers of a split, from 1 on, sorted. Errors: not the release's splits.mat, another split than train or test."""
    if split not in ("train", "test"):
        raise unknown_name("split", split, ["test", "train"], where="NYU Depth V2")
    stored = read_array(path, f"{split}Ndxs").ravel()
    numbers = sorted(stored.astype(np.int64).tolist()) if np.isfinite(stored).all() else []
    if not numbers or numbers[0] < 1 or numbers[-1] > images or len(set(numbers)) < len(numbers):
        raise UserError(f"{split}Ndxs are not different numbers of 1-{images}", where=path, fix="Fetch it again.")
    return numbers


def _open_mat(path: Path) -> Any:
    import h5py

    try:
        data = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"not an HDF5 file, or truncated: {error}", where=path, fix="Fetch it again.") from error
    for name, shape in ARRAYS.items():
        try:
            found = data[name].shape if name in data else None
            fits = found is not None and found == (len(data["images"]), *shape)
        except BROKEN as error:
            raise UserError(f"{name} cannot be read: {error}", where=path, fix="Fetch it again.") from error
        if not fits:
            problem = f"{name} is {found or 'nothing'}, not N x {shape}"
            raise UserError(problem, where=path, fix="Is it nyu_depth_v2_labeled.mat? Fetch it again.")
    return data


def _no_options(options: dict[str, Any], name: str) -> None:
    if options:
        raise unknown_name("option", next(iter(options)), [], where=f"data.options of {name}")
