"""Where each layout keeps its pictures and labels, as the real data sets have them on disk.

ade20k            ADEChallengeData2016/{images,annotations}/{training,validation}/ADE_{train,val}_00000001.{jpg,png}; 0 = other, 1..150
voc2012           VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,ImageSets/Segmentation}; palette PNGs, 0 = background, 255 = boundary
voc2007-boxes     see boxes
pascal-context    VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext,ImageSets/SegmentationContext}; 0 = background, 1..59
rooms             images, labels, depth, normals, instances, cameras under {train,val}/; points/, captions.jsonl, classes.json
webdataset        {train,val}-000.tar ... for pretraining: images, each beside a .json with its captions; also `close_ups`

Each layout gives the files of one room as {path under the root: bytes}, and the index files of the whole set.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image

from tips_bench.rooms.drawing.classes import CLASSES, IGNORE, lookup_table
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import PointCloud, Room, point_cloud

Files = dict[str, bytes]


@dataclass(frozen=True)
class Entry:
    """One image of the set: its stem, room and kind of room, and its captions."""

    split: str
    stem: str
    scene: str
    kind: str
    captions: tuple[str, str]


class Layout(Protocol):
    """One way to keep a set on disk. images_per_shard: where its files are packed into tar files in the end."""

    images_per_shard: int | None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        """The file stem of frame `frame` of a room, the number-th image of its split, from 1."""

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        """The files of one room."""

    def index(self, entries: list[Entry]) -> Files:
        """The files that speak of the whole set."""


def jpeg(image_HW3: np.ndarray) -> bytes:
    """JPEG bytes at quality 92, colour at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def png(array: np.ndarray, palette: list[int] | None = None) -> bytes:
    """PNG bytes of uint8 [H, W] or [H, W, 3] or uint16 [H, W]; with a palette (flat RGB), a palette PNG."""
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def voc_palette() -> list[int]:
    """The 256 colours of VOC's palette PNGs: bit k of r, g, b, from the top, is bits 3k, 3k + 1, 3k + 2 of the id (VOC2012 devkit)."""
    colors = []
    for number in range(256):
        rgb, rest = [0, 0, 0], number
        for bit in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
        colors += rgb
    return colors


class Ade20k:
    """ADEChallengeData2016, with its list of scene categories."""

    images_per_shard = None
    _folder: ClassVar = {"train": "training", "val": "validation"}
    _table = np.array(lookup_table("ade20k"), np.uint8)
    _table[IGNORE] = 0

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"ADE_{split}_{number:08d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files, folder = {}, self._folder[split]
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"ADEChallengeData2016/images/{folder}/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"ADEChallengeData2016/annotations/{folder}/{stem}.png"] = png(self._table[frame.classes_HW])
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {"ADEChallengeData2016/sceneCategories.txt": _lines([f"{e.stem} {e.kind.replace(' ', '_')}" for e in entries])}


class Voc2012:
    """VOC2012 segmentation: the outlines of objects are 255, as in the real set."""

    images_per_shard = None
    _table = np.array(lookup_table("voc"), np.uint8)

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"VOCdevkit/VOC2012/SegmentationClass/{stem}.png"] = png(self.outlined(frame), voc_palette())
        return files

    def outlined(self, frame: Frame) -> np.ndarray:
        """VOC ids with 255 on the outlines of VOC objects, two pixels wide."""
        ids = self._table[frame.classes_HW]
        objects = np.where((ids > 0) & (ids != IGNORE), frame.instances_HW, 0)
        for a, b in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
            differs = objects[a] != objects[b]
            ids[a][differs] = IGNORE
            ids[b][differs] = IGNORE
        return ids

    def index(self, entries: list[Entry]) -> Files:
        return split_lists("VOCdevkit/VOC2012/ImageSets/Segmentation", entries, trainval=True)


class PascalContext:
    """Pascal-Context as mmsegmentation reads it: VOC2010 with converted label maps."""

    images_per_shard = None
    _table = np.array(lookup_table("context"), np.uint8)
    _table[IGNORE] = 0

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"VOCdevkit/VOC2010/JPEGImages/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"VOCdevkit/VOC2010/SegmentationClassContext/{stem}.png"] = png(self._table[frame.classes_HW])
        return files

    def index(self, entries: list[Entry]) -> Files:
        return split_lists("VOCdevkit/VOC2010/ImageSets/SegmentationContext", entries, trainval=False)


def split_lists(folder: str, entries: list[Entry], trainval: bool) -> Files:
    """The list of each split. trainval: one of both together, too."""
    lists = {split: [e.stem for e in entries if e.split == split] for split in ("train", "val")}
    if trainval:
        lists["trainval"] = sorted(lists["train"] + lists["val"])
    return {f"{folder}/{name}.txt": _lines(stems) for name, stems in lists.items()}


class Rooms:
    """Our own layout, with all that is known of each frame.

    labels: 0-based class ids, 255 unlabelled. depth: 16-bit millimetres, 0 unknown. normals: RGB = round((n + 1) * 127.5), camera
    frame (x right, y down, z forward), 0 0 0 unknown. instances: 16-bit, 0 none. cameras: 3x3 intrinsics, 4x4 camera-to-world pose.
    """

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {f"points/{room.name}.ply": ply(point_cloud(room.tracer))}
        for stem, frame in zip(stems, room.frames, strict=True):
            known = (frame.depth_HW > 0)[..., None]
            files |= {
                f"images/{split}/{stem}.jpg": jpeg(frame.image_HW3),
                f"labels/{split}/{stem}.png": png(frame.classes_HW),
                f"depth/{split}/{stem}.png": png(np.rint(frame.depth_HW * 1000).astype(np.uint16)),
                f"normals/{split}/{stem}.png": png(np.where(known, np.rint((frame.normals_HW3 + 1) * 127.5), 0).astype(np.uint8)),
                f"instances/{split}/{stem}.png": png(frame.instances_HW),
                f"cameras/{split}/{stem}.json": _json(
                    {"size": frame.camera.size, "intrinsics": frame.camera.intrinsics_33.tolist(), "pose": frame.camera.pose_44.tolist()}
                ),
            }
        return files

    def index(self, entries: list[Entry]) -> Files:
        captions = [
            json.dumps(
                {
                    "image": f"images/{e.split}/{e.stem}.jpg",
                    "scene": e.scene,
                    "room": e.kind,
                    "web": e.captions[0],
                    "synthetic": e.captions[1],
                }
            )
            for e in entries
        ]
        classes = {"classes": [c.name for c in CLASSES], "palette": [list(c.rgb) for c in CLASSES], "ignore": IGNORE}
        return {"captions.jsonl": _lines(captions), "classes.json": _json(classes)}


class WebDataset:
    """Image-text shards as webdataset writes them. "synthetic" holds the whole account and a short one, its first two sentences."""

    images_per_shard = 512

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame, (web, synthetic) in zip(stems, room.frames, room.captions, strict=True):
            short = ". ".join(synthetic.removesuffix(".").split(". ")[:2]) + "."
            files |= captioned(f"{split}/{stem}", frame, web, [synthetic, short], room)
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def captioned(name: str, frame: Frame, web: str, synthetic: list[str], room: Room) -> Files:
    """A picture and its captions, the two files of one sample of a shard."""
    captions = {"web": web, "synthetic": list(dict.fromkeys(synthetic)), "scene": room.name, "room": room.scene.kind}
    return {f"{name}.jpg": jpeg(frame.image_HW3), f"{name}.json": _json(captions)}


def ply(cloud: PointCloud) -> bytes:
    """A binary PLY: x y z, red green blue, label (class id) and instance."""
    record = np.zeros(len(cloud.points_N3), [("xyz", "<f4", 3), ("rgb", "u1", 3), ("label", "u1"), ("instance", "<i4")])
    record["xyz"], record["rgb"], record["label"], record["instance"] = (
        cloud.points_N3,
        cloud.colors_N3,
        cloud.classes_N,
        cloud.instances_N,
    )
    names = ("float x", "float y", "float z", "uchar red", "uchar green", "uchar blue", "uchar label", "int instance")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(record)}",
        *(f"property {name}" for name in names),
        "end_header",
    ]
    return _lines(header) + record.tobytes()
