"""Pairs of frames of ScanNet's test scenes, the 1,500 of LoFTR (Sun et al., CVPR 2021), with depth and poses.

    test.npz              name: [N, 4] numbers of scene, scan, first and second frame
    intrinsics.npz        sceneNNNN_NN: 3 x 3 intrinsics of the frames, 640 x 480
    sceneNNNN_NN/{color/FRAME.jpg, depth/FRAME.png (millimeters), pose/FRAME.txt (camera to world)}

Layout as mbanani/probe3d a1f1464 reads it (evals/datasets/scannet_pairs.py:39-120). Image coordinates are whole at the centers of pixels in
ScanNet's files, and lie half a pixel farther here.

Axes: H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import ImageSample
from tips_bench.data.camera_geometry import Intrinsics, points
from tips_bench.data.images import read_uint16
from tips_bench.data.pairs import KnownPairs, Pair, PairImages, ViewPair
from tips_bench.data.view_geometry import angle_group, angle_names, degrees_of
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest
from tips_bench.npz import read_npz

SIZE = 480, 640  # of an image, whatever its file's
FOLDERS = ("", "scannet_test_1500")


class ScanNetPairsOptions(Strict):
    """step: every so many pixels of a row and a column have a point. angles: bounds of the ranges of angles, in degrees."""

    step: int = Field(4, gt=0)
    angles: tuple[float, ...] = (0, 15, 30, 60, 180)


class FrameImages(PairImages):
    """The frames, 480 x 640."""

    def size(self, index: int) -> tuple[int, int]:
        """(480, 640)."""
        return SIZE

    def load(self, index: int) -> ImageSample:
        """Decode one image. Errors: a broken or missing file."""
        image_HW3 = self.image(index)
        if image_HW3.shape[:2] != SIZE:
            method = cv2.INTER_AREA if image_HW3.shape[0] >= SIZE[0] else cv2.INTER_LINEAR
            image_HW3 = cv2.resize(image_HW3, SIZE[::-1], interpolation=method)
        return ImageSample(self.ids[index], self.groups[index], image_HW3)

    def sources(self, index: int) -> list[Path]:
        """Image, depth and pose."""
        return [self.file(index), self.beside(index, "depth", "png"), self.beside(index, "pose", "txt")]

    def beside(self, index: int, folder: str, suffix: str) -> Path:
        """Another file of the frame."""
        file = self.file(index)
        return file.parent.parent / folder / f"{file.stem}.{suffix}"


class ScanNetPairs(KnownPairs[Pair, FrameImages]):
    """One split of the pairs; those of one scene are a group."""

    name = "scannet-pairs"

    def __init__(
        self, split: str, root: Path, names_N4: np.ndarray, cameras: dict[str, np.ndarray], options: ScanNetPairsOptions, how: str
    ) -> None:
        self.split, self.options, self._cameras = split, options, cameras
        frames = [(f"scene{scene:04d}_{scan:02d}", first, second) for scene, scan, first, second in sorted(map(tuple, names_N4.tolist()))]
        files = {f"{scene}/{one}": f"{root}/{scene}/color/{one}.jpg" for scene, *both in frames for one in both}
        images = FrameImages(self.name, split, root, files, how=how, turned=False)
        place = {id: number for number, id in enumerate(images.ids)}
        poses = [_pose(images.beside(number, "pose", "txt")) for number in range(len(place))]
        self.classes, self._moves = angle_names(options.angles), dict[str, np.ndarray]()
        pairs = []
        for scene, first, second in frames:
            if scene not in cameras:
                raise UserError(f"there are no intrinsics of {scene}", where=root / "intrinsics.npz", fix=how)
            a, b = place[f"{scene}/{first}"], place[f"{scene}/{second}"]
            id, move_44 = f"{scene}/{first}-{second}", np.linalg.inv(poses[b]) @ poses[a]
            kind = angle_group(degrees_of(move_44), options.angles, id, root)
            pairs.append(Pair(id, scene.rsplit("_", 1)[0], kind, a, b))
            self._moves[id] = move_44
        super().__init__(pairs, images, root)
        known = (value for id in self.ids for value in (id, *self._moves[id].ravel().tolist()))
        used = (value for scene in sorted({frame[0] for frame in frames}) for value in (scene, *cameras[scene].ravel().tolist()))
        self.fingerprint = digest(*images.ids, *images.image_bytes, *known, *used, options.model_dump_json())

    def load(self, index: int) -> ViewPair:
        """Decode the depth of one pair. Errors: a broken or missing file, a depth map of another size."""
        pair, step = self._pairs[index], self.options.step
        matrix_33, move_44 = self._cameras[pair.id.split("/")[0]], self._moves[pair.id]
        fx, fy, cx, cy = (float(matrix_33[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
        camera = Intrinsics(fx, fy, cx + 0.5, cy + 0.5, *SIZE)
        coarse = camera.resized(SIZE[0] // step, SIZE[1] // step)
        points_2HW3 = np.stack([points(self._depth(place)[::step, ::step], coarse) for place in (pair.first, pair.second)])
        known = pair.id, pair.group, pair.kind, pair.first, pair.second
        return ViewPair(*known, points_2HW3, move_44, (camera.fx, camera.fy), degrees_of(move_44))

    def _depth(self, place: int) -> np.ndarray:
        """depth_HW in meters, 0 = unknown."""
        path = self.images.beside(place, "depth", "png")
        depth_HW = read_uint16(path).astype(np.float64) / 1000
        if depth_HW.shape != SIZE:
            raise UserError(f"a depth map of {depth_HW.shape}, expected {SIZE} (height, width)", where=path, fix="Get the pair again.")
        return depth_HW


def scannet_pairs(root: str | Path, split: str, **options: Any) -> ScanNetPairs:
    """The pairs. Splits: test. Errors: a file that is missing or is not of this set."""
    root, how = Path(root), load_card("task", "scannet-pairs").how_to_get
    chosen = parse(ScanNetPairsOptions, options, where="data.options")
    if split != "test":
        raise unknown_name("split", split, ["test"], where="scannet-pairs")
    place = next((root / folder for folder in FOLDERS if (root / folder / "test.npz").is_file()), None)
    if place is None:
        raise UserError("the list of pairs is missing", where=root / "test.npz", fix=how)
    names_N4 = read_npz(place / "test.npz", "list of pairs", lambda data: np.array(data["name"]))
    cameras = read_npz(place / "intrinsics.npz", "file of intrinsics", lambda data: {name: np.array(data[name], float) for name in data})
    if names_N4.ndim != 2 or names_N4.shape[1] != 4 or names_N4.dtype.kind not in "ui" or not len(names_N4):
        raise UserError(f"name is {names_N4.dtype} {list(names_N4.shape)}, not four numbers a pair", where=place / "test.npz", fix=how)
    wrong = [name for name, matrix in cameras.items() if matrix.shape != (3, 3) or not np.isfinite(matrix).all()]
    if wrong:
        raise UserError(f"{wrong[0]} is not a matrix of 3 x 3 numbers", where=place / "intrinsics.npz", fix=how)
    return ScanNetPairs(split, place, names_N4, cameras, chosen, how)


def _pose(path: Path) -> np.ndarray:
    """Camera to world, 4 x 4. Errors: a file that is missing or holds something else; a lost pose."""
    try:
        pose_44 = np.array(path.read_text(encoding="utf-8").split(), dtype=np.float64).reshape(4, 4)
    except (OSError, ValueError) as error:
        raise UserError(f"not a pose of 4 x 4 numbers: {error}", where=path, fix="Get the scene again.") from error
    if not np.isfinite(pose_44).all() or abs(np.linalg.det(pose_44[:3, :3]) - 1) > 0.01:
        raise UserError("the pose is lost: its rotation is none", where=path, fix="Get the scene again.")
    return pose_44
