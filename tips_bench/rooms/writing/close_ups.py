"""Shards in which most pictures are close-ups: squares cut from a frame, each with captions of what is in that square alone.

Of photographs on the web, too, many show a thing or two. A caption then speaks of few patches, in place of a whole room's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.rooms.captions import SHELL, Seen, listed, names, visible, web
from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.camera import Camera
from tips_bench.rooms.drawing.render import Frame
from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.layouts import Files, WebDataset, captioned

LEAST = 0.015  # share of a close-up that a thing in its caption covers
MOST = 6  # things in a caption


def close_up(frame: Frame, top: int, left: int, side: int) -> Frame:
    """A square of a frame, as the camera would see it whose sensor is cut to that square."""
    rows, columns = slice(top, top + side), slice(left, left + side)
    intrinsics_33 = frame.camera.intrinsics_33.copy()
    intrinsics_33[:2, 2] -= left, top
    return Frame(
        frame.image_HW3[rows, columns],
        frame.classes_HW[rows, columns],
        frame.instances_HW[rows, columns],
        frame.depth_HW[rows, columns],
        frame.normals_HW3[rows, columns],
        Camera(intrinsics_33, frame.camera.pose_44, side),
    )


def cut_out(frame: Frame, scene: Scene, sides: tuple[float, float], rng: np.random.Generator) -> tuple[Frame, str]:
    """A close-up round a random place of a thing in view, and the thing's kind; every kind is as likely as the others, a wall as a vase."""
    size = frame.camera.size
    kinds = sorted({scene.instances[seen.number].kind for seen in visible(scene, frame, shell=True)})
    side = round(size * float(np.exp(rng.uniform(*np.log(sides)))))
    row, column, kind = size // 2, size // 2, ""
    if kinds:
        kind = kinds[int(rng.integers(len(kinds)))]
        numbers = [k + 1 for k, thing in enumerate(scene.instances) if thing.kind == kind]
        rows, columns = np.nonzero(np.isin(frame.instances_HW, numbers))
        place = int(rng.integers(len(rows)))
        row, column = int(rows[place]), int(columns[place])
    top, left = (int(np.clip(middle - side // 2, 0, size - side)) for middle in (row, column))
    return close_up(frame, top, left, side), kind


def described(scene: Scene, seen: list[Seen]) -> list[str]:
    """Two true captions: all that is there, the largest first but walls, floor and ceiling last; and the first two of that."""
    seen = sorted(seen, key=lambda one: scene.instances[one.number].kind in SHELL)
    return [f"{listed(scene, chosen)}.".capitalize() for chosen in (seen[:MOST], seen[:2])]


def named(scene: Scene, seen: list[Seen], kind: str) -> list[str]:
    """True captions: all that is there, in the same order; the names alone of the same things; and that of `kind`, if it is there."""
    seen = sorted(seen, key=lambda one: scene.instances[one.number].kind in SHELL)[:MOST]
    kinds = list(dict.fromkeys(scene.instances[one.number].kind for one in seen))
    said = [listed(scene, seen), names(kinds)] + ([names([kind])] if kind in kinds else [])
    return [f"{text}.".capitalize() for text in said]


@dataclass(frozen=True)
class CloseUps(WebDataset):
    """Each frame as `WebDataset` has it, and close-ups of it.

    sides: of a close-up, the least and the most, of the frame's side. plain: with captions that name things and no colours.
    """

    per_frame: int
    sides: tuple[float, float]
    plain: bool

    @property
    def images_per_shard(self) -> int:  # type: ignore[override]
        return WebDataset.images_per_shard * (1 + self.per_frame)

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files = super().files(split, room, stems)
        for number, (stem, frame) in enumerate(zip(stems, room.frames, strict=True)):
            rng = np.random.default_rng([int(room.name.removeprefix(split)), number])
            for k in range(self.per_frame):
                view, kind = cut_out(frame, room.scene, self.sides, rng)
                seen = [one for one in visible(room.scene, view, shell=True) if one.share >= LEAST]
                if seen:
                    said = web(room.scene, [one for one in visible(room.scene, view) if one.share >= LEAST], rng)
                    careful = named(room.scene, seen, kind) if self.plain else described(room.scene, seen)
                    files |= captioned(f"{split}/{stem}_{k}", view, said, careful, room)
        return files
