"""Rooms as sets of single objects, cut from the frames: a folder for each class, and retrieval of one object seen again.

class-crops   {train,val}/CLASS/SCENE_FRAME_INSTANCE.jpg, as torchvision's ImageFolder reads it; of each class the largest in a frame
uned          images/DOMAIN/SCENE/OBJECT/FRAME_INSTANCE.jpg and info_files/DOMAIN/{test,index}.json, as UnED keeps its eight domains

In the second, things of one kind, shape and colour in one room are one object. The domain "furniture" is its own index: every image of an
object that is seen at least twice is a query. In the domain "furnishings" an object's images of the last frame that shows it are queries,
and all others, with those of objects that are seen once, are the index.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np

from tips_bench.files import sha256
from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg

CLASSES = (
    "armchair",
    "bed",
    "book",
    "bookcase",
    "cabinet",
    "chair",
    "coffee table",
    "curtain",
    "cushion",
    "desk",
    "door",
    "painting",
    "plant",
    "refrigerator",
    "rug",
    "sofa",
    "stove",
    "table",
    "television",
    "window",
)
FURNITURE = (
    "armchair",
    "bed",
    "bookcase",
    "cabinet",
    "chair",
    "coffee table",
    "desk",
    "refrigerator",
    "sofa",
    "stool",
    "stove",
    "table",
    "wardrobe",
)
FURNISHINGS = (
    "basket",
    "blanket",
    "book",
    "box",
    "curtain",
    "cushion",
    "flower",
    "lamp",
    "mirror",
    "monitor",
    "painting",
    "pillow",
    "plant",
    "rug",
    "television",
    "vase",
)
LEAST = 0.012  # share of the image that an object covers, at least
COVERED = 0.12  # share of its crop, which is square however thin the object
MARGIN = 0.1  # of the box's longer side, around it


def things(frame: Frame, scene: Scene, kinds: tuple[str, ...]) -> list[tuple[int, np.ndarray]]:
    """(instance, crop_HW3) of the objects of some kinds in view, the largest first. A crop is a square round the visible part.

    Left out are objects that cover little of the image or of their crop, which would show something else.
    """
    size, found = frame.instances_HW.shape[0], []
    numbers, counts = np.unique(frame.instances_HW, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number == 0 or count < LEAST * size * size or scene.instances[number - 1].kind not in kinds:
            continue
        rows, columns = np.nonzero(frame.instances_HW == number)
        side = min(size, round((1 + 2 * MARGIN) * max(np.ptp(rows), np.ptp(columns))) + 1)
        if count < COVERED * side * side:
            continue
        top, left = (int(np.clip((axis.min() + axis.max() + 1 - side) // 2, 0, size - side)) for axis in (rows, columns))
        found.append((-count, number, frame.image_HW3[top : top + side, left : left + side]))
    return [(number, crop_HW3) for _, number, crop_HW3 in sorted(found, key=lambda one: one[:2])]


class ClassCrops:
    """A folder for each class."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for stem, frame in zip(stems, room.frames, strict=True):
            done: set[str] = set()
            for number, crop_HW3 in things(frame, room.scene, CLASSES):
                kind = room.scene.instances[number - 1].kind
                if kind not in done:
                    files[f"{split}/{kind.replace(' ', '_')}/{stem}_{number:03d}.jpg"] = jpeg(crop_HW3)
                    done.add(kind)
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


class Uned:
    """Two domains of objects that are seen again."""

    images_per_shard = None

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{scene}_{frame:02d}"

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files: Files = {}
        for domain, kinds in (("furniture", FURNITURE), ("furnishings", FURNISHINGS)):
            for number_of_frame, frame in enumerate(room.frames):
                for number, crop_HW3 in things(frame, room.scene, kinds):
                    thing = room.scene.instances[number - 1]
                    name = "-".join(word.replace(" ", "_") for word in (thing.kind, thing.word, thing.color) if word)
                    files[f"images/{domain}/{room.name}/{name}/{number_of_frame:02d}_{number:03d}.jpg"] = jpeg(crop_HW3)
        return files

    def index(self, entries: list[Entry]) -> Files:
        return {}


def join_lists(folder: Path, names: list[str]) -> dict[str, str]:
    """Write the lists of what `Uned.files` wrote; name -> hex SHA-256 of every file, with the lists. Lone furniture is removed."""
    paths = sorted(Path(name).relative_to("images") for name in names)
    lists: dict[tuple[str, str], list[dict[str, object]]] = {
        (domain, name): [] for domain, name in (("furniture", "test"), ("furnishings", "test"), ("furnishings", "index"))
    }
    for number, (place, group) in enumerate(groupby(paths, key=lambda path: path.parent)):
        domain, images = place.parts[0], list(group)
        last = images[-1].name.split("_")[0]
        seen_again = len(images) > 1
        for path in images:
            entry: dict[str, object] = {"path": str(path), "class_id": number}
            if domain == "furniture" and not seen_again:
                (folder / "images" / path).unlink()
                continue
            queried = domain == "furniture" or (path.name.split("_")[0] == last and images[0].name.split("_")[0] != last)
            lists[domain, "test" if queried else "index"].append(entry)
    for (domain, name), entries in lists.items():
        path = folder / "info_files" / domain / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries) + "\n", encoding="utf-8")
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
