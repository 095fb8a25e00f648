"""KITTI's Eigen split for depth (D. Eigen, C. Puhrsch, R. Fergus, NIPS 2014; A. Geiger et al., IJRR 2013).

The lists are those of BTS (eigen_*_files_with_gt.txt) or of the Monocular-Depth-Estimation-Toolbox and DINOv2 (kitti_eigen_*.txt):
23,158 training images, and 697 to test, of which 652 have an annotated depth map (J. Uhrig et al., 3DV 2017: 16-bit PNG, metres x 256).
Depth maps are looked for where data_depth_annotated.zip unpacks them, `train/DRIVE/` and `val/DRIVE/`, in a folder of the archive's
name, in gt_depth, or in the set's own folder; merged flat (DRIVE/ at once), as both sources have them, or not.
`truth: velodyne` projects each image's laser scan instead, as Eigen's evaluation did, and needs no annotated maps: all 697 count.

`crop: kb` keeps the bottom 352 rows and the middle 1216 columns, as the KITTI benchmark's own images and BTS's code have them; Garg's
crop is a share of that.

Axes: N laser points, H W pixels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.camera_geometry import Intrinsics
from tips_bench.data.images import image_size
from tips_bench.data.pixel_values import Box, DepthPairs, PairReader
from tips_bench.data.split_lists import ListedSplit, choose, found_in, read_listed, under
from tips_bench.errors import UserError, unknown_name

RELEASE = ("data_depth_annotated", "gt_depth", "")
ANNOTATED = tuple(f"{folder}/{part}".strip("/") for folder in RELEASE for part in ("", "train", "val"))
TOOLBOX = (*(folder for folder in ANNOTATED if folder.startswith("gt_depth")), *ANNOTATED)
RAW = ("", "raw", "kitti_raw")
SPLITS = {
    split: (
        ListedSplit(f"kitti_eigen_{split}.txt", ("input", *RAW), TOOLBOX),
        ListedSplit(f"eigen_{split}_files_with_gt.txt", (*RAW, "input"), ANNOTATED),
    )
    for split in ("train", "test")
}
KB = (352, 1216)
DRIVE = re.compile(r"^[^/]+/([^/]+)/")
FIX = "Fetch it again."


class KittiOptions(Strict):
    """truth: annotated depth maps, or the projected laser scan of each image. crop: "kb" or the whole image."""

    truth: Literal["annotated", "velodyne"] = "annotated"
    crop: Literal["kb", "none"] = "kb"


def kitti_depth(root: str | Path, split: str, **options: Any) -> PairReader:
    """KITTI, Eigen split, left colour images. Splits: train, test; images of one drive are a group."""
    chosen = parse(KittiOptions, options, where="data.options")
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS, where="kitti-depth")
    root, how = Path(root), load_card("task", "kitti-depth").how_to_get
    layout = choose(root, SPLITS[split], f"the {split} split of KITTI", how)
    pairs: dict[str, tuple[str, str]] = {}
    names: dict[str, tuple[str, str]] = {}
    for line in read_listed(root / layout.listing):
        id, image = line.image.removesuffix(".png"), under(root, layout.images, line.image)
        if chosen.truth == "velodyne":
            pairs[id], names[id] = (image, str(scan_of(Path(image)))), (line.image, str(scan_of(Path(line.image))))
        elif line.depth is not None:
            pairs[id], names[id] = (image, under(root, layout.depths, line.depth)), (line.image, line.depth)
    kind = Annotated if chosen.truth == "annotated" else Velodyne
    rule = f"{chosen.truth} {chosen.crop}"
    reader = kind("kitti-depth", split, root, pairs, scale=256.0, rule=rule, how=how, group=DRIVE, crop=chosen.crop)
    reader.layout = found_in(root, layout.listing, pairs, names)
    return reader


class Annotated(DepthPairs):
    """Annotated depth maps; the camera is told where the raw set's calibration lies beside its images."""

    reach = (1.5, 90.0)

    def __init__(self, *arguments: Any, crop: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._crop = crop

    def box(self, height: int, width: int) -> Box | None:
        """The KB crop. Errors: an image that is smaller."""
        if self._crop == "none":
            return None
        if height < KB[0] or width < KB[1]:
            raise UserError(f"an image of {height}x{width}, smaller than the KB crop of 352x1216", where=self.root, fix="Set crop to none.")
        top, left = height - KB[0], (width - KB[1]) // 2
        return slice(top, top + KB[0]), slice(left, left + KB[1])

    def intrinsics(self, index: int) -> Intrinsics | None:
        image = self.files(index)[0]
        if not (image.parents[3] / "calib_cam_to_cam.txt").is_file():
            return None
        path = image.parents[3] / "calib_cam_to_cam.txt"
        try:
            projection_34 = read_calibration(path)["P_rect_02"].reshape(3, 4)
        except (KeyError, ValueError) as error:
            raise UserError("no P_rect_02 of twelve numbers", where=path, fix=FIX) from error
        size = image_size(image)
        camera = Intrinsics(projection_34[0, 0], projection_34[1, 1], projection_34[0, 2] + 0.5, projection_34[1, 2] + 0.5, *size)
        box = self.box(*size)
        return camera if box is None else camera.boxed(*box)


class Velodyne(Annotated):
    """Depth from each image's own laser scan."""

    def target(self, index: int) -> np.ndarray:
        """depth_HW, float32 metres along the optical axis."""
        image, scan = self.files(index)
        return project(read_scan(scan), velodyne_to_image(image.parents[3]), *image_size(image))


def scan_of(image: Path) -> Path:
    """DATE/DRIVE/velodyne_points/data/NUMBER.bin beside DATE/DRIVE/image_02/data/NUMBER.png."""
    return image.parents[2] / "velodyne_points" / "data" / f"{image.stem}.bin"


def read_scan(path: Path) -> np.ndarray:
    """points_N3 in metres, float32: x forward, y left, z up. Errors: a file that is no list of four floats a point."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error
    if len(data) % 16 or not data:
        raise UserError(f"{len(data)} bytes are not a laser scan, which has four floats per point", where=path, fix=FIX)
    return np.frombuffer(data, "<f4").reshape(-1, 4)[:, :3]


def read_calibration(path: Path) -> dict[str, np.ndarray]:
    """Name -> its numbers. Errors: a file that cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read: {error}", where=path, fix="It comes with the raw set's calibration files.") from error
    found = {}
    for line in lines:
        name, _, text = line.partition(":")
        try:
            found[name.strip()] = np.array([float(number) for number in text.split()])
        except ValueError:  # a date, which is no number
            continue
    return found


def velodyne_to_image(folder: Path) -> np.ndarray:
    """The 3 x 4 matrix from laser points to the left colour image (P_rect_02 R_rect_00 Tr). folder: of the date. Errors: no calibration."""
    cameras, laser = read_calibration(folder / "calib_cam_to_cam.txt"), read_calibration(folder / "calib_velo_to_cam.txt")
    rectify_44, move_44 = np.eye(4), np.eye(4)
    try:
        rectify_44[:3, :3] = cameras["R_rect_00"].reshape(3, 3)
        move_44[:3, :3], move_44[:3, 3] = laser["R"].reshape(3, 3), laser["T"]
        return cameras["P_rect_02"].reshape(3, 4) @ rectify_44 @ move_44
    except (KeyError, ValueError) as error:
        raise UserError("the calibration lacks P_rect_02, R_rect_00, R or T", where=folder, fix=FIX) from error


def project(points_N3: np.ndarray, matrix_34: np.ndarray, height: int, width: int) -> np.ndarray:
    """depth_HW, float32: of each pixel the nearest point in front of the laser, 0 where there is none.

    A point belongs to pixel (round(x) - 1, round(y) - 1), as KITTI's MATLAB code and monodepth count; depth is along the camera's axis,
    where monodepth takes the laser's own, 0.27 m more.
    """
    points_N3 = points_N3[points_N3[:, 0] >= 0].astype(np.float64)
    image_N3 = points_N3 @ matrix_34[:, :3].T + matrix_34[:, 3]
    image_N3 = image_N3[image_N3[:, 2] > 0]
    column_N, row_N = (np.rint(image_N3[:, axis] / image_N3[:, 2]).astype(np.int64) - 1 for axis in (0, 1))
    inside_N = (column_N >= 0) & (column_N < width) & (row_N >= 0) & (row_N < height)
    nearest_P = np.full(height * width, np.inf)
    np.minimum.at(nearest_P, row_N[inside_N] * width + column_N[inside_N], image_N3[inside_N, 2])
    return np.where(np.isfinite(nearest_P), nearest_P, 0).astype(np.float32).reshape(height, width)
