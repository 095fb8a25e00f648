"""Rooms as VOC with boxes: each box is tight round a piece of furniture that covers enough of the picture."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.boxes import LEAST, annotation, framed
from tips_bench.rooms.writing.class_crops import FURNITURE


def test_boxes_count_from_one_and_are_tight_round_what_is_seen() -> None:
    drawn, boxes = room(0, "val", 0, size=96, frames=3), 0
    for whole in drawn.frames:
        frame = framed(whole, drawn.scene)
        size = frame.instances_HW.shape[0]
        for thing in ElementTree.fromstring(annotation("a", frame, drawn.scene)).iter("object"):
            left, top, right, bottom = (int(thing.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax"))
            numbers = [k + 1 for k, one in enumerate(drawn.scene.instances) if one.kind == thing.findtext("name")]
            tight = []
            for number in numbers:
                rows, columns = np.nonzero(frame.instances_HW == number)
                if len(rows) >= LEAST * size * size:
                    tight.append((columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1))
            assert (left, top, right, bottom) in tight and thing.findtext("name") in FURNITURE
            assert (thing.findtext("truncated") == "1") == (min(left, top) == 1 or max(right, bottom) == size)
            boxes += 1
    assert boxes > 0
