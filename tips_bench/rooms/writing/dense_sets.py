"""Rooms as NYU Depth V2, KITTI and NAVI keep depth and normals on disk, seen through those sets' own cameras.

nyu            SCENE/rgb_00001.jpg, SCENE/sync_depth_00001.png (millimetres), nyu_train.txt, nyu_test.txt
nyu-labelled   nyu_depth_v2_labeled.mat (HDF5), splits.mat, normals_gt/{normals,masks}/0000.png
kitti          input/DATE/{calib_*.txt, DRIVE/{image_02,velodyne_points}/data}, gt_depth/DRIVE/proj_depth/groundtruth/image_02 (metres x
               256), kitti_eigen_{train,test}.txt
navi           OBJECT/{multiview-00-rooms,wild_set}/{annotations.json, images, depth, masks}; one thing of each room, a quarter as large

A frame is drawn square by its own camera; each pixel of the set's camera takes the nearest one, and is black and unknown where the
frame does not reach. Images have the real sets' sizes whatever the size drawn.

Axes: H W pixels.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tips_bench.files import sha256
from tips_bench.rooms.drawing.classes import NAMES
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, png

STRUCTURE = [NAMES.index(name) for name in ("wall", "floor", "ceiling")]
DATE = "2011_09_26"
# Laser to camera: x forward, y left, z up to x right, y down, z forward, the laser 0.27 m behind.
TURN_33 = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
MOVE_3 = np.array([0.0, 0.0, -0.27])


class Lens(NamedTuple):
    """A camera as in data/camera_geometry.py: pixel centres at halves."""

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int


NYU = Lens(518.85790117450188, 519.46961112127485, 325.08244941119034, 253.23616633400465, 480, 640)
KITTI = Lens(721.5377, 721.5377, 610.0593, 173.354, 375, 1242)
NAVI = Lens(700.0, 700.0, 400.0, 300.0, 600, 800)


class View(NamedTuple):
    """A frame through another camera. depth_HW: float32 metres, 0 unknown; normals_HW3: 0 0 0 unknown; instances_HW: 0 none."""

    image_HW3: np.ndarray
    depth_HW: np.ndarray
    normals_HW3: np.ndarray
    instances_HW: np.ndarray
    classes_HW: np.ndarray


def through(frame: Frame, lens: Lens) -> View:
    """What a frame's camera saw, through a lens at the same place."""
    focal, size = frame.camera.focal, frame.camera.size
    column_W = np.floor(focal * (np.arange(lens.width) + 0.5 - lens.cx) / lens.fx + size / 2).astype(np.int64)
    row_H = np.floor(focal * (np.arange(lens.height) + 0.5 - lens.cy) / lens.fy + size / 2).astype(np.int64)
    inside_HW = ((row_H >= 0) & (row_H < size))[:, None] & ((column_W >= 0) & (column_W < size))[None]
    places = row_H.clip(0, size - 1)[:, None], column_W.clip(0, size - 1)[None]
    maps = (frame.image_HW3, frame.depth_HW, frame.normals_HW3, frame.instances_HW, frame.classes_HW)
    return View(*(np.where(inside_HW[..., None] if map.ndim == 3 else inside_HW, map[places], 0).astype(map.dtype) for map in maps))


def stored_normals(normals_HW3: np.ndarray) -> np.ndarray:
    """uint8: round((n + 1) * 127.5)."""
    return np.rint((normals_HW3 + 1) * 127.5).astype(np.uint8)


class Nyu:
    """The split of BTS, all in one folder as DINOv2 has it. Training folders are scenes, test folders kinds of rooms."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{number:05d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            image, depth = nyu_names(split, room.name, room.scene.kind, stem)
            view = through(frame, NYU)
            files |= {image: jpeg(view.image_HW3), depth: png(np.rint(1000 * view.depth_HW).astype(np.uint16))}
        return files

    def index(self, entries: list[Entry]) -> Files:
        lists: Files = {}
        for split, listing in (("train", "nyu_train.txt"), ("val", "nyu_test.txt")):
            names = [nyu_names(split, e.scene, e.kind, e.stem) for e in entries if e.split == split]
            slash = "/" if split == "train" else ""  # as the published lists have it
            lists[listing] = "".join(f"{slash}{image} {slash}{depth} 518.8579\n" for image, depth in names).encode()
        return lists


def nyu_names(split: str, scene: str, kind: str, stem: str) -> tuple[str, str]:
    """(image, depth map) of a frame."""
    number, name = stem.rsplit("_", 1)[1], kind.replace(" ", "_")
    folder = f"{name}_{int(scene.removeprefix(split)):04d}a" if split == "train" else name
    return f"{folder}/rgb_{number}.jpg", f"{folder}/sync_depth_{number}.png"


class NyuLabelled:
    """The labelled set. Parts of images are joined to one file by `join_labelled`."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{split}_{number:04d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            view, part = through(frame, NYU), io.BytesIO()
            scene = f"{room.scene.kind.replace(' ', '_')}_{int(room.name.removeprefix(split)):04d}"
            np.savez(part, image=view.image_HW3, depth=view.depth_HW, normals=view.normals_HW3, scene=np.array(scene))
            files[f"parts/{stem}.npz"] = part.getvalue()
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def join_labelled(folder: Path, names: list[str]) -> dict[str, str]:
    """Join parts/*.npz to the files of the labelled set, training images first; name -> hex SHA-256."""
    import h5py

    parts = sorted(names)
    written = [folder / "nyu_depth_v2_labeled.mat", folder / "splits.mat"]
    with h5py.File(written[0], "w", libver="earliest") as data:
        many = {"images": ((3, 640, 480), "u1"), "depths": ((640, 480), "<f4"), "rawDepths": ((640, 480), "<f4")}
        arrays = {name: data.create_dataset(name, (len(parts), *shape), dtype) for name, (shape, dtype) in many.items()}
        scenes = data.create_dataset("scenes", (1, len(parts)), h5py.ref_dtype)
        for index, part in enumerate(parts):
            with np.load(folder / part) as view:
                image_HW3, depth_HW, normals_HW3, scene = (view[name] for name in ("image", "depth", "normals", "scene"))
            arrays["images"][index] = image_HW3.transpose(2, 1, 0)
            arrays["depths"][index] = depth_HW.T
            depth_HW[::40] = 0  # the sensor's holes
            arrays["rawDepths"][index] = depth_HW.T
            letters = data.create_dataset(f"#refs#/{index}", data=np.array([[ord(letter)] for letter in str(scene)], np.uint16))
            scenes[0, index] = letters.ref
            known_HW = normals_HW3.any(axis=-1)
            toward_HW3 = stored_normals(normals_HW3 * np.array([1, 1, -1]))
            written += _put_png(folder / f"normals_gt/normals/{index:04d}.png", toward_HW3)
            written += _put_png(folder / f"normals_gt/masks/{index:04d}.png", np.where(known_HW, 255, 0).astype(np.uint8))
            (folder / part).unlink()
    (folder / "parts").rmdir()
    written[1].write_bytes(splits_mat([number + 1 for number, part in enumerate(parts) if "/train_" in part], len(parts)))
    return {str(path.relative_to(folder)): sha256(path) for path in written}


def splits_mat(train: list[int], images: int) -> bytes:
    """The bytes of splits.mat, without the date that scipy writes into its first line."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    test = [number for number in range(1, images + 1) if number not in train]
    savemat(buffer, {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]})
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


def _put_png(path: Path, values: np.ndarray) -> list[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(values))
    return [path]


class Kitti:
    """The Eigen split in the Monocular-Depth-Estimation-Toolbox's folders, with laser scans and calibration."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{number:010d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            view, (image, depth) = through(frame, KITTI), kitti_names(room.name, stem)
            sparse_HW = np.zeros_like(view.depth_HW)
            sparse_HW[1::2, 1::2] = view.depth_HW[1::2, 1::2]
            scan = image.replace("image_02", "velodyne_points").replace(".png", ".bin")
            files |= {
                f"input/{image}": png(view.image_HW3),
                f"gt_depth/{depth}": png(np.rint(256 * sparse_HW).astype(np.uint16)),
                f"input/{scan}": laser_scan(view.depth_HW),
            }
        return files

    def index(self, entries: list[Entry]) -> Files:
        projection = [KITTI.fx, 0, KITTI.cx - 0.5, 0, 0, KITTI.fy, KITTI.cy - 0.5, 0, 0, 0, 1, 0]
        cameras = {"R_rect_00": np.eye(3).ravel().tolist(), "P_rect_02": projection}
        laser = {"R": TURN_33.ravel().tolist(), "T": MOVE_3.tolist()}
        files = {f"input/{DATE}/calib_cam_to_cam.txt": _calibration(cameras), f"input/{DATE}/calib_velo_to_cam.txt": _calibration(laser)}
        for split, listing in (("train", "kitti_eigen_train.txt"), ("val", "kitti_eigen_test.txt")):
            names = [kitti_names(e.scene, e.stem) for e in entries if e.split == split]
            files[listing] = "".join(f"{image} {depth} 721.5377\n" for image, depth in names).encode()
        return files


def kitti_names(scene: str, stem: str) -> tuple[str, str]:
    """(image, depth map) of a frame; drives of the test split are numbered from 5000 on."""
    split, number = scene[:-5], stem.rsplit("_", 1)[1]
    drive = f"{DATE}_drive_{int(scene[-5:]) + (5000 if split == 'val' else 0):04d}_sync"
    return f"{DATE}/{drive}/image_02/data/{number}.png", f"{drive}/proj_depth/groundtruth/image_02/{number}.png"


def laser_scan(depth_HW: np.ndarray) -> bytes:
    """Every fourth pixel with depth as a laser point: x y z and reflectance, float32."""
    row_N, column_N = np.nonzero(depth_HW[::4, ::4])
    depth_N = depth_HW[::4, ::4][row_N, column_N].astype(np.float64)
    x_N, y_N = (4 * column_N + 0.5 - KITTI.cx) / KITTI.fx * depth_N, (4 * row_N + 0.5 - KITTI.cy) / KITTI.fy * depth_N
    points_N3 = (np.stack([x_N, y_N, depth_N], axis=-1) - MOVE_3) @ TURN_33
    return np.concatenate([points_N3, np.full((len(points_N3), 1), 0.5)], axis=1).astype("<f4").tobytes()


def _calibration(values: dict[str, list[float]]) -> bytes:
    lines = ["calib_time: 09-Jan-2012 13:57:47", *(f"{name}: {' '.join(f'{value:e}' for value in row)}" for name, row in values.items())]
    return "".join(f"{line}\n" for line in lines).encode()


class Navi:
    """One thing of each room: rooms of the train split as multiview collections, of the val split in the wild, by their numbers."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:03d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        folder = f"object_{int(room.name.removeprefix(split)):03d}/{'multiview-00-rooms' if split == 'train' else 'wild_set'}"
        files: Files = {}
        entries = []
        for stem, frame in zip(stems, room.frames, strict=True):
            view, number = through(frame, NAVI), stem.rsplit("_", 1)[1]
            thing_HW = largest_thing(view)
            millimeters_HW = np.where(thing_HW, view.depth_HW * 250, np.inf)
            files |= {
                f"{folder}/images/{number}.jpg": jpeg(view.image_HW3),
                f"{folder}/depth/{number}.png": png(np.rint(655350 / millimeters_HW).clip(0, 65535).astype(np.uint16)),
                f"{folder}/masks/{number}.png": png(np.where(thing_HW, 255, 0).astype(np.uint8)),
            }
            camera = {"q": [1.0, 0.0, 0.0, 0.0], "t": [0.0, 0.0, 0.0], "focal_length": NAVI.fx, "camera_model": "rooms"}
            entries.append(
                {
                    **{"object_id": folder.split("/")[0], "camera": camera, "filename": f"{number}.jpg"},
                    **{"image_size": [NAVI.height, NAVI.width], "scene_name": folder.split("/")[1], "split": "train", "occluded": False},
                }
            )
        return files | {f"{folder}/annotations.json": (json.dumps(entries, indent=1) + "\n").encode()}

    def index(self, entries: list[Entry]) -> Files:
        return {}


def largest_thing(view: View) -> np.ndarray:
    """thing_HW, bool: the instance with most pixels that is no wall, floor or ceiling; all that has depth where there is none."""
    known_HW = view.depth_HW > 0
    things_HW = np.where(known_HW & ~np.isin(view.classes_HW, STRUCTURE), view.instances_HW, 0)
    counts = np.bincount(things_HW.ravel())
    counts[0] = 0
    return things_HW == counts.argmax() if counts.any() else known_HW
