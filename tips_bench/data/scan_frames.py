"""Where the RGB-D frames of a ScanNet scan lie, in each layout that they are passed around in, and how they are read from there.

    scans/ID/ID.sens                                                  the release, all frames in one file
    scans/ID/{color/N.jpg, depth/N.png, pose/N.txt,
              intrinsic/intrinsic_{color,depth}.txt}                  ScanNet's SensReader in Python
    scans/ID/[any folder/]{_info.txt, frame-000000.color.jpg,
              frame-000000.depth.pgm, frame-000000.pose.txt}          ScanNet's SensReader in C++
    scannet_2d/{intrinsics.txt, ID/{color,depth,pose}/}               OpenScene: every 20th frame, 320x240, one camera for all scans
    [tasks/]scannet_frames_25k/ID/{color,depth,pose}/000000.*,
              intrinsics_{color,depth}.txt                            ScanNet's 2D tasks: every 100th frame

Sources: ScanNet/ScanNet 3830fce, SensReader/python/SensorData.py:78-125 and SensReader/c++/src/sensorData.h:1342-1466;
pengsongyou/openscene 0f369bc, scripts/preprocess/README.md:57-78 and preprocess_2d_scannet.py:81-128; xuxw98/Online3D 441538f,
data/scannet-sv/generate_18cls_gt_data.py:446-447 and 601-608.

Each scan's own intrinsics are used, colour and depth apart, where its layout has them: the two cameras differ in resolution, and scans
differ in cameras. A frame whose pose is not finite is one in which tracking was lost: it is left out and counted.

Axes: F frames, H W pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tips_bench.data.images import image_size, read_image, read_pgm16, read_uint16
from tips_bench.data.scans import Camera, RgbdFrame, ScanFrames
from tips_bench.data.sens import SensFile, open_sens
from tips_bench.errors import UserError

MILLIMETERS = 1000  # stored depth in a metre
LOST = 1e-6  # a determinant that no pose has, which is a turn and a shift
CENTERED = 0.15  # how far from the middle, in widths, a principal point may lie: that of another resolution lies much farther
INFO = "_info.txt"
FIX = "Export the scan again."


@dataclass(frozen=True)
class Layout:
    """title: for people. remark: what a record has to say of it, where its numbers do not compare with published ones."""

    title: str
    remark: str = ""


SENS = Layout("the release's .sens files")
PYTHON = Layout("frames exported by ScanNet's SensReader in Python (color, depth, pose, intrinsic)")
CPP = Layout("frames exported by ScanNet's SensReader in C++ (frame-000000.color.jpg, _info.txt)")
OPENSCENE = Layout(
    "OpenScene's 2D set (scannet_2d)", "frames of OpenScene's 2D set: 320x240 pixels and one camera for all scans, not each scan's own"
)
FRAMES_25K = Layout("scannet_frames_25k", "frames of scannet_frames_25k: every 100th frame only")
FOLDERS_2D = {"scannet_2d": OPENSCENE, "scannet_frames_25k": FRAMES_25K, "tasks/scannet_frames_25k": FRAMES_25K}


@dataclass(frozen=True)
class Source:
    """Where the frames of a scan lie. path: the .sens file, or the folder of exported frames."""

    layout: Layout
    path: Path

    def files(self, step: int) -> list[Path]:
        """The files that are read of the frames 0, step, 2 step ..., without their poses; the .sens file alone."""
        if self.layout is SENS:
            return [self.path]
        exported = _exported(self, step)
        return [exported.color_path(stem) for stem in exported.stems] + [exported.depth_path(stem) for stem in exported.stems]

    def open(self, step: int) -> ScanFrames:
        """The frames 0, step, 2 step ... that have a pose. Errors: as the contract says."""
        frames = _SensFrames(self.path, step) if self.layout is SENS else _ExportedFrames(_exported(self, step), step)
        where = self.path if self.layout in (SENS, CPP) else self.path / "color"
        for camera, kind in ((frames.color, "color"), (frames.depth, "depth")):
            check_camera(camera, kind, where)
        return frames


def find_frames(root: Path, id: str) -> Source:
    """The first layout that holds a scan; the release's where none does. Exported frames are taken before a .sens file."""
    folder = root / "scans" / id
    if (folder / "color").is_dir():
        return Source(PYTHON, folder)
    if folder.is_dir():
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
        for place in (folder, *inner):
            if (place / INFO).is_file():
                return Source(CPP, place)
    sens = folder / f"{id}.sens"
    if not sens.exists():
        for name, layout in FOLDERS_2D.items():
            if (root / name / id / "color").is_dir():
                return Source(layout, root / name / id)
    return Source(SENS, sens)


class _Frames:
    """What all sources share. numbers: of the frames that are used."""

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
                raise UserError(problem, where=where, fix=FIX)
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


@dataclass(frozen=True)
class _Exported:
    """Exported frames. stems: of the frames that are used, in their order. color, depth, pose: names of a frame's files.

    cameras: () -> (color, depth) intrinsics 4 x 4, stored depth in a metre.
    """

    folder: Path
    stems: dict[str, int]
    color: str
    depth: str
    pose: str
    cameras: Callable[[], tuple[np.ndarray, np.ndarray, float]]

    def color_path(self, stem: str) -> Path:
        return self.folder / self.color.format(stem)

    def depth_path(self, stem: str) -> Path:
        return self.folder / self.depth.format(stem)

    def pose_path(self, stem: str) -> Path:
        return self.folder / self.pose.format(stem)


def _exported(source: Source, step: int) -> _Exported:
    folder, layout = source.path, source.layout
    if layout is CPP:
        names = "frame-{}.color.jpg", "frame-{}.depth.pgm", "frame-{}.pose.txt"
        return _Exported(folder, _stems(folder, r"frame-(\d+)\.color\.jpg", step), *names, lambda: _info(folder / INFO))
    names = "color/{}.jpg", "depth/{}.png", "pose/{}.txt"
    color, depth = folder / "intrinsic/intrinsic_color.txt", folder / "intrinsic/intrinsic_depth.txt"
    if layout is OPENSCENE:
        color = depth = folder.parent / "intrinsics.txt"
    elif layout is FRAMES_25K:
        color, depth = folder / "intrinsics_color.txt", folder / "intrinsics_depth.txt"
    stems = _stems(folder / "color", r"(\d+)\.jpg", step)
    return _Exported(folder, stems, *names, lambda: (read_matrix(color), read_matrix(depth), MILLIMETERS))


class _ExportedFrames(_Frames):
    def __init__(self, files: _Exported, step: int) -> None:
        self.files = files
        if not files.stems:
            problem = f"no image {Path(files.color).name.format('N')} whose number is a multiple of {step}"
            raise UserError(problem, where=files.color_path("").parent, fix=FIX)
        super().__init__(list(files.stems.values()), np.stack([read_matrix(files.pose_path(stem)) for stem in files.stems]))
        self._stems = {number: stem for stem, number in files.stems.items()}
        first = next(iter(files.stems))
        color_44, depth_44, self.unit = files.cameras()
        sizes = image_size(files.color_path(first)), self._depth(first).shape
        self.color, self.depth = Camera(color_44[:3, :3], sizes[0]), Camera(depth_44[:3, :3], (sizes[1][0], sizes[1][1]))

    def load(self, index: int) -> RgbdFrame:
        stem = self._stems[self.numbers[index]]
        path = self.files.color_path(stem)
        return self._frame(read_image(path), self._depth(stem), self.unit, path)

    def _depth(self, stem: str) -> np.ndarray:
        path = self.files.depth_path(stem)
        return read_pgm16(path) if path.suffix == ".pgm" else read_uint16(path)


def _stems(folder: Path, pattern: str, step: int) -> dict[str, int]:
    """Number as written -> number, of the images in a folder whose number is a multiple of step, rising."""
    found = [match[1] for name in os.listdir(folder) if (match := re.fullmatch(pattern, name, re.ASCII))]
    return {stem: int(stem) for stem in sorted(found, key=int) if int(stem) % step == 0}


def read_matrix(path: Path) -> np.ndarray:
    """A 4 x 4 matrix of numbers, which may be infinite. Errors: no such file, not such a matrix."""
    try:
        return _matrix(path.read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path, fix=FIX) from error


def _matrix(text: str, where: Path) -> np.ndarray:
    try:
        values = [float(word) for word in text.split()]
    except ValueError as error:
        raise UserError(f"not a matrix of numbers: {error}", where=where, fix=FIX) from error
    if len(values) != 16:
        raise UserError(f"{len(values)} numbers, and a matrix has 4 x 4", where=where, fix=FIX)
    return np.array(values).reshape(4, 4)


def _info(path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """(color, depth) intrinsics 4 x 4 and stored depth in a metre, of the lines "name = values" of _info.txt. Errors: not such a file."""
    try:
        lines = [line.partition("=") for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path, fix=FIX) from error
    values = {name.strip(): text for name, _, text in lines}
    try:
        texts = values["m_calibrationColorIntrinsic"], values["m_calibrationDepthIntrinsic"]
        unit = float(values["m_depthShift"])
    except (KeyError, ValueError) as error:
        raise UserError(f"it does not state the cameras and the unit of depth: {error}", where=path, fix=FIX) from error
    if not 0 < unit < np.inf:
        raise UserError(f"m_depthShift = {unit}, and depth has a unit", where=path, fix=FIX)
    return _matrix(texts[0], path), _matrix(texts[1], path), unit


def check_camera(camera: Camera, kind: str, where: Path) -> None:
    """Errors: a principal point far from the middle, as it is where the images were resized and the intrinsics were not."""
    height, width = camera.size
    fx, fy, cx, cy = camera.intrinsics_33[[0, 1, 0, 1], [0, 1, 2, 2]]
    off = max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))
    if not off <= CENTERED or not min(fx, fy) > 0:
        problem = f"the {kind} intrinsics (focal {fx:.1f} {fy:.1f}, centre {cx:.1f} {cy:.1f}) do not fit images of {height}x{width} pixels"
        raise UserError(problem, where=where, fix="They are of another resolution: take each scan's own, scaled as its images are.")
