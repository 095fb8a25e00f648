"""Rooms as videos with masks of objects, as DAVIS 2017 has them.

JPEGImages/480p/val00000/00000.jpg
Annotations/480p/val00000/00000.png    a palette PNG; 0 = background, 1 and up = objects
ImageSets/2017/{train,val}.txt

The folder is named 480p, whatever the size. The objects of a clip are the largest of its first frame, numbered by size.
"""

from __future__ import annotations

import numpy as np

from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.class_crops import FURNISHINGS, FURNITURE
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, png, voc_palette

OBJECTS = 4  # of a clip, at most
LEAST = 0.01  # share of the first frame that an object covers, at least


def followed(frame: Frame, scene: Scene) -> list[int]:
    """Instances of furniture and furnishings that cover most of a frame, the largest first; of all kinds where none is large enough."""
    numbers, pixels = np.unique(frame.instances_HW[frame.instances_HW > 0], return_counts=True)
    order = numbers[np.argsort(-pixels, kind="stable")].tolist()
    large = set(numbers[pixels >= LEAST * frame.instances_HW.size].tolist())
    found = [number for number in order if number in large and scene.instances[number - 1].kind in FURNITURE + FURNISHINGS]
    return found[:OBJECTS] or order[:1]


class Davis:
    """DAVIS 2017's folder."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}/{frame:05d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files, objects = {}, followed(room.frames[0], room.scene)
        number_of = np.zeros(len(room.scene.instances) + 1, np.uint8)
        number_of[objects] = np.arange(1, len(objects) + 1)
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"JPEGImages/480p/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"Annotations/480p/{stem}.png"] = png(number_of[frame.instances_HW], voc_palette())
        return files

    def index(self, entries: list[Entry]) -> Files:
        lists = {split: sorted({entry.scene for entry in entries if entry.split == split}) for split in ("train", "val")}
        return {f"ImageSets/2017/{split}.txt": "".join(f"{clip}\n" for clip in clips).encode() for split, clips in lists.items()}
