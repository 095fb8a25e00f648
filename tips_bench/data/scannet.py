"""ScanNet V2 (Dai et al., CVPR 2017): RGB-D scans of rooms with labelled meshes, in the layout of its release.

    scannetv2_train.txt, scannetv2_val.txt           ids of the scans, from Tasks/Benchmark of ScanNet's repository
    scans/ID/ID_vh_clean_2.ply                       the mesh, whose vertices are the points
    scans/ID/ID_vh_clean_2.labels.ply                their labels, as ids of NYU40
    scans/ID/ID.sens                                 all frames; or, as ScanNet's SensReader exports them:
    scans/ID/{color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt, intrinsic/intrinsic_depth.txt}

Exported frames are taken where a scan has them. Each scan's own intrinsics are used, colour and depth apart, for the two cameras
differ in resolution, and scans differ in cameras. A frame whose pose is not finite is one in which tracking was lost: it is left
out and counted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import IGNORE
from tips_bench.data.images import image_size, read_image, read_uint16
from tips_bench.data.ply import read_vertices, vertex_count
from tips_bench.data.scans import Camera, RgbdFrame, Scan, ScanFrames
from tips_bench.data.sens import SensFile, open_sens
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

SPLITS = ("train", "val")
MILLIMETERS = 1000  # stored depth in a metre
LOST = 1e-6  # a determinant that no pose has, which is a turn and a shift
CENTERED = 0.15  # how far from the middle, in widths, a principal point may lie: that of another resolution lies much farther
# NYU40 id, name and colour of the 20 benchmark classes: BenchmarkScripts/3d_evaluation/evaluate_semantic_label.py and util.py of
# ScanNet's repository.
CLASSES: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (1, "wall", (174, 199, 232)),
    (2, "floor", (152, 223, 138)),
    (3, "cabinet", (31, 119, 180)),
    (4, "bed", (255, 187, 120)),
    (5, "chair", (188, 189, 34)),
    (6, "sofa", (140, 86, 75)),
    (7, "table", (255, 152, 150)),
    (8, "door", (214, 39, 40)),
    (9, "window", (197, 176, 213)),
    (10, "bookshelf", (148, 103, 189)),
    (11, "picture", (196, 156, 148)),
    (12, "counter", (23, 190, 207)),
    (14, "desk", (247, 182, 210)),
    (16, "curtain", (219, 219, 141)),
    (24, "refrigerator", (255, 127, 14)),
    (28, "shower curtain", (158, 218, 229)),
    (33, "toilet", (44, 160, 44)),
    (34, "sink", (112, 128, 144)),
    (36, "bathtub", (227, 119, 194)),
    (39, "otherfurniture", (82, 84, 163)),
)
NYU40 = 40
TABLE = np.full(NYU40 + 1, IGNORE, np.uint8)  # NYU40 id, 0 = unlabelled -> class index
TABLE[[id for id, _, _ in CLASSES]] = np.arange(len(CLASSES))


class ScanNetOptions(Strict):
    """frame_step: of each scan the frames 0, frame_step, 2 frame_step ... are used."""

    frame_step: int = Field(20, gt=0)


def scannet(root: str | Path, split: str, **options: Any) -> ScanNetReader:
    """ScanNet V2 with the 20 benchmark classes. Splits: train, val."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="scannet")
    return ScanNetReader(Path(root), split, parse(ScanNetOptions, options, where="data.options").frame_step)


class ScanNetReader:
    """A ScanReader. Scans of one room (scene0000_00, scene0000_01) are a group.

    Errors: no such folder, no list of the split, a scan without points, labels or frames.
    """

    name = "scannet"

    def __init__(self, root: Path, split: str, frame_step: int) -> None:
        self.split, self.root, self.frame_step = split, str(root), frame_step
        self.classes, self.palette = [name for _, name, _ in CLASSES], [color for _, _, color in CLASSES]
        self.ids = _ids(root, split)
        self.groups = [id.partition("_")[0] for id in self.ids]
        missing: list[Path] = []
        sizes = []
        for index in range(len(self)):
            mesh, labels, frames = self._cloud(index), self._labels(index), self._source(index)
            missing += [path for path in (mesh, labels, frames) if not path.exists()]
            if not missing:
                sizes += [mesh.stat().st_size, labels.stat().st_size, *_identity(frames, frame_step)]
        if missing:
            problem = f"it is missing ({len(missing)} such files, this is the first)"
            raise UserError(problem, where=missing[0], fix="Get it again, or take the scan out of the list.")
        self.fingerprint = digest(frame_step, *self.ids, *sizes, *TABLE)

    def __len__(self) -> int:
        return len(self.ids)

    def points(self, index: int) -> int:
        """N of a scan, from a header."""
        return vertex_count(self._cloud(index))

    def load(self, index: int) -> Scan:
        """Read the cloud and its labels. Errors: a broken file, labels for another number of points, none, or outside NYU40."""
        path, labels_path = self._cloud(index), self._labels(index)
        cloud, labeled = read_vertices(path), read_vertices(labels_path)
        if not {"x", "y", "z", "red", "green", "blue"} <= set(cloud.dtype.names or ()):
            raise UserError("its vertices have no place or no colour", where=path, fix="Get it again.")
        if "label" not in (labeled.dtype.names or ()):
            raise UserError("its vertices have no label", where=labels_path, fix="It is the .labels.ply of the release that is read.")
        if len(labeled) != len(cloud):
            problem = f"{len(labeled)} labels for {len(cloud)} points"
            raise UserError(problem, where=labels_path, fix="Get both files of the scan again.")
        ids_N = labeled["label"]
        if ids_N.max(initial=0) > NYU40:
            raise UserError(f"a label of {ids_N.max()}, and ids of NYU40 end at {NYU40}", where=labels_path, fix="Get it again.")
        points_N3 = np.stack([cloud[axis] for axis in "xyz"], 1).astype(np.float32)
        if not np.isfinite(points_N3).all():
            raise UserError("a point that is not finite", where=path, fix="Get it again.")
        colors_N3 = np.stack([cloud[name] for name in ("red", "green", "blue")], 1).astype(np.uint8)
        return Scan(self.ids[index], self.groups[index], points_N3, colors_N3, TABLE[ids_N])

    def frames(self, index: int) -> ScanFrames:
        """The frames with a pose, exported ones or those of the .sens file. Errors: as the contract says."""
        source = self._source(index)
        frames = _SensFrames(source, self.frame_step) if source.suffix == ".sens" else _ExportedFrames(source.parent, self.frame_step)
        for camera, kind in ((frames.color, "color"), (frames.depth, "depth")):
            _check_camera(camera, kind, source)
        return frames

    def _folder(self, index: int) -> Path:
        return Path(self.root) / "scans" / self.ids[index]

    def _cloud(self, index: int) -> Path:
        return self._folder(index) / f"{self.ids[index]}_vh_clean_2.ply"

    def _labels(self, index: int) -> Path:
        return self._folder(index) / f"{self.ids[index]}_vh_clean_2.labels.ply"

    def _source(self, index: int) -> Path:
        """The folder of exported images where there is one, else the .sens file."""
        exported = self._folder(index) / "color"
        return exported if exported.is_dir() else self._folder(index) / f"{self.ids[index]}.sens"


class _Frames:
    """What both sources share. numbers: of the frames that are used."""

    color: Camera
    depth: Camera

    def __init__(self, numbers: list[int], poses_F44: np.ndarray) -> None:
        known_F = np.isfinite(poses_F44).all((1, 2))
        known_F[known_F] = np.abs(np.linalg.det(poses_F44[known_F])) > LOST
        self.numbers = [number for number, known in zip(numbers, known_F, strict=True) if known]
        self.poses_F44 = poses_F44[known_F]
        self.skipped = int((~known_F).sum())

    def __len__(self) -> int:
        return len(self.numbers)

    def size(self, index: int) -> tuple[int, int]:
        return self.color.size

    def _frame(self, image_HW3: np.ndarray, depth_HW: np.ndarray, unit: float, where: object) -> RgbdFrame:
        for array, camera in ((image_HW3, self.color), (depth_HW, self.depth)):
            if array.shape[:2] != camera.size:
                problem = f"{array.shape[:2]} pixels (height, width), and the scan's other frames have {camera.size}"
                raise UserError(problem, where=where, fix="Export the scan again.")
        return RgbdFrame(image_HW3, depth_HW.astype(np.float32) / np.float32(unit))


class _SensFrames(_Frames):
    def __init__(self, path: Path, step: int) -> None:
        self.file: SensFile = open_sens(path)
        numbers = list(range(0, len(self.file), step))
        if not numbers:
            raise UserError("it holds no frame", where=path, fix="Get it again.")
        super().__init__(numbers, self.file.poses_F44[numbers])
        self.color = Camera(self.file.color_44[:3, :3], self.file.color_size)
        self.depth = Camera(self.file.depth_44[:3, :3], self.file.depth_size)

    def load(self, index: int) -> RgbdFrame:
        number = self.numbers[index]
        where = f"{self.file.path}, frame {number}"
        return self._frame(self.file.color(number), self.file.depth(number), self.file.depth_unit, where)


class _ExportedFrames(_Frames):
    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        numbers = _numbers(folder / "color", step)
        if not numbers:
            raise UserError(f"no image N.jpg whose number is a multiple of {step}", where=folder / "color", fix="Export the scan again.")
        super().__init__(numbers, np.stack([_matrix(folder / "pose" / f"{number}.txt") for number in numbers]))
        first = numbers[0]
        sizes = image_size(folder / "color" / f"{first}.jpg"), image_size(folder / "depth" / f"{first}.png")
        cameras = [_matrix(folder / "intrinsic" / f"intrinsic_{name}.txt")[:3, :3] for name in ("color", "depth")]
        self.color, self.depth = (Camera(intrinsics_33, size) for intrinsics_33, size in zip(cameras, sizes, strict=True))

    def load(self, index: int) -> RgbdFrame:
        path = self.folder / "color" / f"{self.numbers[index]}.jpg"
        depth_HW = read_uint16(self.folder / "depth" / f"{self.numbers[index]}.png")
        return self._frame(read_image(path), depth_HW, MILLIMETERS, path)


def _ids(root: Path, split: str) -> list[str]:
    path = root / f"scannetv2_{split}.txt"
    try:
        ids = sorted(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot read the list of the split: {getattr(error, 'strerror', None) or error}"
        raise UserError(problem, where=path, fix=load_card("task", "scannet").how_to_get) from error
    if wrong := [id for id in ids if not re.fullmatch(r"\w+", id)]:
        raise UserError(f"{wrong[0]!r} is not the id of a scan", where=path, fix="Get the list again.")
    if not ids or len(set(ids)) != len(ids):
        raise UserError("the list is empty, or names a scan twice", where=path, fix="Get the list again.")
    return ids


def _identity(source: Path, step: int) -> list[int]:
    """Sizes in bytes of the frames that are used, or of the .sens file."""
    if source.is_file():
        return [source.stat().st_size]
    names = [str(number) for number in _numbers(source, step)]
    files = [source / f"{name}.jpg" for name in names] + [source.parent / "depth" / f"{name}.png" for name in names]
    return [path.stat().st_size if path.exists() else 0 for path in files]


def _numbers(folder: Path, step: int) -> list[int]:
    found = [int(name[:-4]) for name in os.listdir(folder) if name.endswith(".jpg") and name[:-4].isdecimal()]
    return sorted(number for number in found if number % step == 0)


def _matrix(path: Path) -> np.ndarray:
    """A 4 x 4 matrix of numbers, which may be infinite. Errors: no such file, not such a matrix."""
    try:
        values = [float(word) for word in path.read_text(encoding="utf-8").split()]
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path, fix="Export the scan again.") from error
    except ValueError as error:
        raise UserError(f"not a matrix of numbers: {error}", where=path, fix="Export the scan again.") from error
    if len(values) != 16:
        raise UserError(f"{len(values)} numbers, and a matrix has 4 x 4", where=path, fix="Export the scan again.")
    return np.array(values).reshape(4, 4)


def _check_camera(camera: Camera, kind: str, where: Path) -> None:
    """Errors: a principal point far from the middle, as it is where the images were resized and the intrinsics were not."""
    height, width = camera.size
    fx, fy, cx, cy = camera.intrinsics_33[[0, 1, 0, 1], [0, 1, 2, 2]]
    off = max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))
    if not off <= CENTERED or not min(fx, fy) > 0:
        problem = f"the {kind} intrinsics (focal {fx:.1f} {fy:.1f}, centre {cx:.1f} {cy:.1f}) do not fit images of {height}x{width} pixels"
        raise UserError(problem, where=where, fix="They are of another resolution: take each scan's own, scaled as its images are.")
