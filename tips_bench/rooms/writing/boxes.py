"""Rooms as Pascal VOC with boxes: close-ups of furniture, and a box round each piece in view.

voc2007-boxes     VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}; annotations as the devkit of VOC 2007 describes them

As in VOC, most images are of something: each is a square of a frame round the largest piece of furniture in it that is whole in view, or
else the largest. A box is that of the visible part; a piece that the border of the image cuts off is marked as truncated. Corners count
from 1, both inside. A frame without furniture is an image without boxes.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.class_crops import FURNITURE
from tips_bench.rooms.writing.close_ups import close_up
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg, split_lists

ROOT = "VOCdevkit/VOC2007"
LEAST = 0.01  # share of the image that a piece covers, at least
MARGIN = 0.3  # of the longer side of the piece that an image is of, around it
Ends = tuple[int, int, int, int]  # left, top, right, bottom, the last two outside


class VocBoxes:
    """VOC2007 with boxes."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, whole in zip(stems, room.frames, strict=True):
            frame = framed(whole, room.scene)
            files[f"{ROOT}/JPEGImages/{stem}.jpg"] = jpeg(frame.image_HW3)
            files[f"{ROOT}/Annotations/{stem}.xml"] = annotation(stem, frame, room.scene)
        return files

    def index(self, entries: list[Entry]) -> Files:
        return split_lists(f"{ROOT}/ImageSets/Main", entries, trainval=True)


def pieces(frame: Frame, scene: Scene) -> list[tuple[int, int, Ends]]:
    """(instance, pixels, box) of the furniture in view, in the order of instances."""
    found, least = [], LEAST * frame.instances_HW.size
    numbers, counts = np.unique(frame.instances_HW, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number and count >= least and scene.instances[number - 1].kind in FURNITURE:
            rows, columns = np.nonzero(frame.instances_HW == number)
            ends = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
            found.append((number, count, ends))
    return found


def is_cut(ends: Ends, size: int) -> bool:
    """Whether a box touches the border of a square image."""
    return min(ends) == 0 or max(ends) == size


def framed(frame: Frame, scene: Scene) -> Frame:
    """The square round the piece that the image is to be of; the whole frame where there is none."""
    size, seen = frame.instances_HW.shape[0], pieces(frame, scene)
    if not seen:
        return frame
    _, _, (left, top, right, bottom) = max(seen, key=lambda one: (not is_cut(one[2], size), one[1]))
    side = min(size, round((1 + 2 * MARGIN) * max(right - left, bottom - top)))
    first_row, first_column = (int(np.clip((low + high - side) // 2, 0, size - side)) for low, high in ((top, bottom), (left, right)))
    return close_up(frame, first_row, first_column, side)


def annotation(stem: str, frame: Frame, scene: Scene) -> bytes:
    """The XML of a square image."""
    size = frame.instances_HW.shape[0]
    root = ElementTree.Element("annotation")
    _add(root, folder="VOC2007", filename=f"{stem}.jpg")
    _add(ElementTree.SubElement(root, "size"), width=size, height=size, depth=3)
    _add(root, segmented=0)
    for number, _, ends in pieces(frame, scene):
        thing = ElementTree.SubElement(root, "object")
        _add(thing, name=scene.instances[number - 1].kind, pose="Unspecified", truncated=int(is_cut(ends, size)), difficult=0)
        left, top, right, bottom = ends
        _add(ElementTree.SubElement(thing, "bndbox"), xmin=left + 1, ymin=top + 1, xmax=right, ymax=bottom)
    ElementTree.indent(root)
    return ElementTree.tostring(root) + b"\n"


def _add(element: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(element, name).text = str(value)
