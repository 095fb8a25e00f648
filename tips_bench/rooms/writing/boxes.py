"""Rooms as Pascal VOC with boxes, round the furniture in view.

voc2007-boxes     VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}; annotations as the devkit of VOC 2007 describes them

A box is that of the visible part; an object that the border of the image cuts off is marked as truncated. Corners count from 1, both inside.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.class_crops import FURNITURE
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, split_lists

ROOT = "VOCdevkit/VOC2007"
LEAST = 0.01  # share of the image that an object covers, at least


class VocBoxes:
    """VOC2007 with boxes."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            files[f"{ROOT}/JPEGImages/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"{ROOT}/Annotations/{stem}.xml"] = annotation(stem, frame, room.scene)
        return files

    def index(self, entries: list[Entry]) -> Files:
        return split_lists(f"{ROOT}/ImageSets/Main", entries, trainval=True)


def annotation(stem: str, frame: Frame, scene: Scene) -> bytes:
    """The XML of a frame."""
    height, width = frame.instances_HW.shape
    root = ElementTree.Element("annotation")
    _add(root, folder="VOC2007", filename=f"{stem}.jpg")
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    _add(root, segmented=0)
    numbers, counts = np.unique(frame.instances_HW, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number == 0 or count < LEAST * height * width or scene.instances[number - 1].kind not in FURNITURE:
            continue
        rows, columns = np.nonzero(frame.instances_HW == number)
        ends = int(columns.min()) + 1, int(rows.min()) + 1, int(columns.max()) + 1, int(rows.max()) + 1
        cut = ends[0] == 1 or ends[1] == 1 or ends[2] == width or ends[3] == height
        thing = ElementTree.SubElement(root, "object")
        _add(thing, name=scene.instances[number - 1].kind, pose="Unspecified", truncated=int(cut), difficult=0)
        _add(ElementTree.SubElement(thing, "bndbox"), **dict(zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True)))
    ElementTree.indent(root)
    return ElementTree.tostring(root) + b"\n"


def _add(element: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
