"""The classes of the rooms, and what they are called in ADE20K, VOC2012 and Pascal-Context.

Our ids are 0..K-1 in the order of CLASSES; 255 is ignored. Ids of the real sets are those stored in their PNGs:
ADE20K 1..150 (0 = other), VOC2012 0..20 (0 = background), Pascal-Context 0..59 (0 = background) in the alphabetical
order of mmsegmentation 1.2.2. A class without a counterpart is background there. Palette colours are ADE20K's.
"""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = 255


@dataclass(frozen=True)
class RoomClass:
    """One class: its name, colour, and (id, name) in each real set, None where the set has no such class."""

    name: str
    rgb: tuple[int, int, int]
    ade20k: tuple[int, str]
    voc: tuple[int, str] | None = None
    context: tuple[int, str] | None = None


CLASSES: tuple[RoomClass, ...] = (
    RoomClass("wall", (120, 120, 120), (1, "wall"), None, (56, "wall")),
    RoomClass("floor", (80, 50, 50), (4, "floor"), None, (26, "floor")),
    RoomClass("ceiling", (120, 120, 80), (6, "ceiling"), None, (16, "ceiling")),
    RoomClass("window", (230, 230, 230), (9, "windowpane"), None, (58, "window")),
    RoomClass("door", (8, 255, 51), (15, "door"), None, (24, "door")),
    RoomClass("bed", (204, 5, 255), (8, "bed"), None, (3, "bed")),
    RoomClass("pillow", (0, 235, 255), (58, "pillow"), None, (4, "bedclothes")),
    RoomClass("blanket", (20, 0, 255), (132, "blanket"), None, (4, "bedclothes")),
    RoomClass("table", (255, 6, 82), (16, "table"), (11, "diningtable"), (50, "table")),
    RoomClass("coffee table", (0, 255, 112), (65, "coffee table"), None, (50, "table")),
    RoomClass("desk", (10, 255, 71), (34, "desk"), None, (50, "table")),
    RoomClass("chair", (204, 70, 3), (20, "chair"), (9, "chair"), (17, "chair")),
    RoomClass("armchair", (8, 255, 214), (31, "armchair"), (9, "chair"), (17, "chair")),
    RoomClass("stool", (0, 214, 255), (111, "stool"), None, (17, "chair")),
    RoomClass("sofa", (11, 102, 255), (24, "sofa"), (18, "sofa"), (49, "sofa")),
    RoomClass("cushion", (255, 194, 7), (40, "cushion"), None, (18, "cloth")),
    RoomClass("cabinet", (224, 5, 255), (11, "cabinet"), None, (13, "cabinet")),
    RoomClass("wardrobe", (7, 255, 255), (36, "wardrobe"), None, (13, "cabinet")),
    RoomClass("bookcase", (0, 255, 245), (63, "bookcase"), None, (44, "shelves")),
    RoomClass("shelf", (255, 7, 71), (25, "shelf"), None, (44, "shelves")),
    RoomClass("book", (255, 163, 0), (68, "book"), None, (9, "book")),
    RoomClass("lamp", (224, 255, 8), (37, "lamp"), None, (33, "light")),
    RoomClass("light", (255, 173, 0), (83, "light"), None, (33, "light")),
    RoomClass("rug", (255, 9, 92), (29, "rug"), None, (18, "cloth")),
    RoomClass("curtain", (255, 51, 7), (19, "curtain"), None, (22, "curtain")),
    RoomClass("painting", (255, 6, 51), (23, "painting"), None, None),
    RoomClass("mirror", (220, 220, 220), (28, "mirror"), None, None),
    RoomClass("plant", (204, 255, 4), (18, "plant"), (16, "pottedplant"), (40, "pottedplant")),
    RoomClass("flower", (255, 0, 0), (67, "flower"), None, (27, "flower")),
    RoomClass("vase", (0, 255, 204), (136, "vase"), None, None),
    RoomClass("television", (0, 255, 194), (90, "television receiver"), (20, "tvmonitor"), (55, "tvmonitor")),
    RoomClass("monitor", (0, 92, 255), (144, "monitor"), (20, "tvmonitor"), (55, "tvmonitor")),
    RoomClass("computer", (0, 255, 173), (75, "computer"), None, (19, "computer")),
    RoomClass("box", (0, 255, 20), (42, "box"), None, None),
    RoomClass("basket", (92, 255, 0), (113, "basket"), None, (2, "bag")),
    RoomClass("bottle", (0, 255, 10), (99, "bottle"), (5, "bottle"), (10, "bottle")),
    RoomClass("glass", (25, 194, 194), (148, "glass"), None, (21, "cup")),
    RoomClass("plate", (0, 255, 184), (143, "plate"), None, (38, "plate")),
    RoomClass("clock", (102, 255, 0), (149, "clock"), None, None),
    RoomClass("countertop", (0, 143, 255), (71, "countertop"), None, None),
    RoomClass("stove", (51, 255, 0), (72, "stove"), None, None),
    RoomClass("refrigerator", (20, 255, 0), (51, "refrigerator"), None, None),
)

NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
IDS: dict[str, int] = {name: i for i, name in enumerate(NAMES)}


def lookup_table(dataset: str) -> list[int]:
    """The 256-entry table from our ids to the ids of `ade20k`, `voc` or `context`; 255 stays 255."""
    table = [0] * 255 + [IGNORE]
    for i, room_class in enumerate(CLASSES):
        target = getattr(room_class, dataset)
        if target is not None:
            table[i] = target[0]
    return table
