"""Rooms as scans of ScanNet V2: a labelled cloud and the RGB-D frames it was seen in, exported or in one .sens file.

The depth camera has half the resolution of the colour camera and sees a little more, so each needs its own intrinsics, as in the
real set. Pixel centres have whole coordinates there, and lie half a pixel farther in `camera.py`. Every view is a frame of its own;
there is no video between them.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from tips_bench.rooms.drawing.camera import Camera
from tips_bench.rooms.drawing.classes import CLASSES, IGNORE
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.drawing.tracer import Tracer
from tips_bench.rooms.generate import PointCloud, Room, point_cloud
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, png

# Our classes under the ids of NYU40; 40 is "otherprop".
NYU40 = {
    **{"wall": 1, "floor": 2, "ceiling": 22, "window": 9, "door": 8, "bed": 4, "pillow": 18, "blanket": 40, "table": 7},
    **{"coffee table": 7, "desk": 14, "chair": 5, "armchair": 5, "stool": 40, "sofa": 6, "cushion": 18, "cabinet": 3, "wardrobe": 3},
    **{"bookcase": 10, "shelf": 15, "book": 23, "lamp": 35, "light": 35, "rug": 20, "curtain": 16, "painting": 11, "mirror": 19},
    **{"plant": 40, "flower": 40, "vase": 40, "television": 25, "monitor": 40, "computer": 40, "box": 29, "basket": 40, "bottle": 40},
    **{"glass": 40, "plate": 40, "clock": 40, "countertop": 12, "stove": 38, "refrigerator": 24},
}
_LABELS = np.array([*(NYU40[c.name] for c in CLASSES), *[0] * (IGNORE + 1 - len(CLASSES))], np.uint16)
_WIDER = 1.05  # the depth camera's view, as a multiple of the colour camera's
_FIRST = {"train": 0, "val": 5000}  # number of a split's first scene


class ScanNet:
    """The release's folder `scans`, and the lists of its splits. sens: frames in .sens files, else as its SensReader exports them."""

    images_per_shard = None

    def __init__(self, sens: bool) -> None:
        self._sens = sens

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        id = scan_id(room.name)
        folder, cloud = f"scans/{id}", point_cloud(room.tracer)
        files = {f"{folder}/{id}_vh_clean_2.ply": mesh(cloud, None), f"{folder}/{id}_vh_clean_2.labels.ply": mesh(cloud, _LABELS)}
        color, depth = room.frames[0].camera, depth_camera(room.frames[0].camera)
        seen = [(jpeg(frame.image_HW3), millimeters(room.tracer, frame), frame.camera.pose_44) for frame in room.frames]
        if self._sens:
            return files | {f"{folder}/{id}.sens": sens(color, depth, seen)}
        for name, camera in (("color", color), ("depth", depth)):
            files[f"{folder}/intrinsic/intrinsic_{name}.txt"] = _text(whole_pixels(camera))
            files[f"{folder}/intrinsic/extrinsic_{name}.txt"] = _text(np.eye(4))
        for number, (picture, depth_HW, pose_44) in enumerate(seen):
            files[f"{folder}/color/{number}.jpg"] = picture
            files[f"{folder}/depth/{number}.png"] = png(depth_HW)
            files[f"{folder}/pose/{number}.txt"] = _text(pose_44)
        return files

    def index(self, entries: list[Entry]) -> Files:
        ids = {split: sorted({scan_id(e.scene) for e in entries if e.split == split}) for split in _FIRST}
        return {f"scannetv2_{split}.txt": "".join(f"{id}\n" for id in found).encode() for split, found in ids.items()}


def scan_id(room: str) -> str:
    """The name of a room ("train00002") as that of a scan ("scene0002_00")."""
    split = next(split for split in _FIRST if room.startswith(split))
    return f"scene{_FIRST[split] + int(room.removeprefix(split)):04d}_00"


def depth_camera(color: Camera) -> Camera:
    """The sensor beside the colour camera, at the same place."""
    size = color.size // 2
    focal = color.focal * size / color.size / _WIDER
    return Camera(np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]), color.pose_44, size)


def millimeters(tracer: Tracer, frame: Frame) -> np.ndarray:
    """What the depth camera of a frame sees: uint16 [H, W], 0 where nothing is."""
    camera = depth_camera(frame.camera)
    depth_N = tracer.cast(camera.pixel_rays()).t_N
    return np.rint(np.where(np.isfinite(depth_N), depth_N, 0) * 1000).clip(0, 65535).astype(np.uint16).reshape(camera.size, camera.size)


def whole_pixels(camera: Camera) -> np.ndarray:
    """4 x 4 intrinsics for image coordinates that are whole at pixel centres."""
    matrix = np.eye(4)
    matrix[:3, :3] = camera.intrinsics_33
    matrix[:2, 2] -= 0.5
    return matrix


def mesh(cloud: PointCloud, labels: np.ndarray | None) -> bytes:
    """A PLY as the release has them, with the faces left out. labels: our class -> label, None for a file without labels."""
    fields = [("xyz", "<f4", 3), ("rgba", "u1", 4), *([("label", "<u2")] if labels is not None else [])]
    record = np.zeros(len(cloud.points_N3), fields)
    record["xyz"], record["rgba"][:, :3], record["rgba"][:, 3] = cloud.points_N3, cloud.colors_N3, 255
    names = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue", "uchar alpha"]
    if labels is not None:
        record["label"] = labels[cloud.classes_N]
        names.append("ushort label")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(record)}", *(f"property {name}" for name in names)]
    header += ["element face 0", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(header).encode() + record.tobytes()


def sens(color: Camera, depth: Camera, frames: list[tuple[bytes, np.ndarray, np.ndarray]]) -> bytes:
    """A .sens file of version 4, of (JPEG, depth in millimetres, pose) a frame; the fields are those of ScanNet's SensReader."""
    name = b"tips-bench rooms"
    matrices = np.stack([whole_pixels(color), np.eye(4), whole_pixels(depth), np.eye(4)]).astype("<f4")
    sizes = struct.pack("<2i4IfQ", 2, 1, color.size, color.size, depth.size, depth.size, 1000.0, len(frames))
    parts = [struct.pack("<IQ", 4, len(name)), name, matrices.tobytes(), sizes]
    for number, (picture, depth_HW, pose_44) in enumerate(frames):
        packed = zlib.compress(depth_HW.astype("<u2").tobytes(), 6)
        parts += [pose_44.astype("<f4").tobytes(), struct.pack("<4Q", number, number, len(picture), len(packed)), picture, packed]
    return b"".join(parts)


def _text(matrix: np.ndarray) -> bytes:
    """Rows of numbers, each in the single precision that a .sens file holds."""
    rows = [" ".join(repr(float(value)) for value in row) for row in matrix.astype(np.float32)]
    return ("\n".join(rows) + "\n").encode()
