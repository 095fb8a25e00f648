"""Shards in which most pictures are close-ups: squares cut from a frame, each with captions of what is in that square alone.

Of photographs on the web, too, many show a thing or two. A caption then speaks of few patches, in place of a whole room's.
"""

from __future__ import annotations

import numpy as np

from tips_bench.rooms.assembly import Scene
from tips_bench.rooms.camera import Camera
from tips_bench.rooms.captions import SHELL, Seen, listed, visible, web
from tips_bench.rooms.generate import Room
from tips_bench.rooms.layouts import Files, WebDataset, captioned
from tips_bench.rooms.render import Frame

PER_FRAME = 7
SIDES = (0.28, 0.65)  # of the frame's side
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


def cut_out(frame: Frame, scene: Scene, rng: np.random.Generator) -> Frame:
    """A close-up round a random place of a thing in view; every kind of thing is as likely as the others, a wall as a vase."""
    size = frame.camera.size
    kinds = sorted({scene.instances[seen.number].kind for seen in visible(scene, frame, shell=True)})
    side = round(size * float(np.exp(rng.uniform(*np.log(SIDES)))))
    row = column = size // 2
    if kinds:
        kind = kinds[int(rng.integers(len(kinds)))]
        numbers = [k + 1 for k, thing in enumerate(scene.instances) if thing.kind == kind]
        rows, columns = np.nonzero(np.isin(frame.instances_HW, numbers))
        place = int(rng.integers(len(rows)))
        row, column = int(rows[place]), int(columns[place])
    top, left = (int(np.clip(middle - side // 2, 0, size - side)) for middle in (row, column))
    return close_up(frame, top, left, side)


def described(scene: Scene, seen: list[Seen]) -> list[str]:
    """Two true captions: all that is there, the largest first but walls, floor and ceiling last; and the first two of that."""
    seen = sorted(seen, key=lambda one: scene.instances[one.number].kind in SHELL)
    return [f"{listed(scene, chosen)}.".capitalize() for chosen in (seen[:MOST], seen[:2])]


class CloseUps(WebDataset):
    """Each frame as `WebDataset` has it, and close-ups of it."""

    images_per_shard = WebDataset.images_per_shard * (1 + PER_FRAME)

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        files = super().files(split, room, stems)
        for number, (stem, frame) in enumerate(zip(stems, room.frames, strict=True)):
            rng = np.random.default_rng([int(room.name.removeprefix(split)), number])
            for k in range(PER_FRAME):
                view = cut_out(frame, room.scene, rng)
                seen = [one for one in visible(room.scene, view, shell=True) if one.share >= LEAST]
                if seen:
                    said = web(room.scene, [one for one in visible(room.scene, view) if one.share >= LEAST], rng)
                    files |= captioned(f"{split}/{stem}_{k}", view, said, described(room.scene, seen), room)
        return files
