"""The images of a task's data, whatever its family: single images, frames of clips and scans, and what pairs are made of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from tips_bench.cards import TaskCard, load_card
from tips_bench.catalog import data_root, generated_root
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.rooms.writing.writers import write_rooms

Role = Literal["train", "test"]


@dataclass(frozen=True)
class TaskImages:
    """The images of one split. load: place -> (id, image_HW3 uint8 RGB). fingerprint: of the data, without reading the images.

    same: equal for splits of the same images. others: further tasks with the same images.
    """

    task: str
    role: str
    root: str
    count: int
    load: Callable[[int], tuple[str, np.ndarray]]
    fingerprint: str
    same: str
    others: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """What a report calls them."""
        more = f" and {len(self.others)} more tasks" if len(self.others) > 1 else f" and {self.others[0]}" if self.others else ""
        return f"{self.task}{more} ({self.role})"


def root_of(card: TaskCard, chosen: Path | None) -> Path:
    """The data root of a task. chosen: by the user, of all data that are not generated."""
    return generated_root() if card.data.generator else chosen or data_root()


def prepare(card: TaskCard, root: Path) -> None:
    """Generate the data of a task of rooms where they are not there yet."""
    if card.data.generator is not None:
        write_rooms(root=root / card.data.root, **card.data.generator_options)


def is_here(card: TaskCard, root: Path) -> bool:
    """Whether this machine has a folder with the data of a task."""
    folder = root / card.data.root
    return folder.is_dir() and any(folder.iterdir())


def open_images(card: TaskCard, role: str, root: Path) -> TaskImages:
    """The images of a split. Errors: data that are missing or incomplete; samples that are no images."""
    split = Split.open(card.data, root / card.data.root, cast(Role, role), None)
    count, load = _images(card, split.reader)
    same = digest(root / card.data.root, count, *split.reader.ids)
    return TaskImages(card.name, role, str(root), count, load, split.fingerprint, same)


def gather(
    tasks: Sequence[str], roles: Sequence[Role], chosen: Path | None, *, whatever_is_here: bool
) -> tuple[list[TaskImages], dict[str, str]]:
    """The images of tasks, those of the same data once; and, with whatever_is_here, task -> why its images are not among them.

    chosen: the data root of the user. Errors: as `open_images`, unless whatever_is_here; then rooms are not generated either, and it is an
    error if no images are found at all.
    """
    found: dict[str, TaskImages] = {}
    absent: dict[str, str] = {}
    for task in tasks:
        card = load_card("task", task)
        root = root_of(card, chosen)
        if whatever_is_here and not is_here(card, root):
            absent[task] = "its data are not on this machine"
            continue
        try:
            prepare(card, root)
            for role in (role for role in roles if role in card.data.splits or not whatever_is_here):
                images = open_images(card, role, root)
                first = found.setdefault(images.same, images)
                if first.task != task:
                    found[images.same] = replace(first, others=(*first.others, task))
        except UserError as error:
            if not whatever_is_here:
                raise
            absent[task] = str(error)
    if not found:
        where = chosen or data_root()
        fix = "Put data there, name their folder with --data-root, or leave the option out."
        raise UserError(f"the images of none of {len(absent)} tasks are on this machine", where=where, fix=fix)
    return list(found.values()), absent


def _images(card: TaskCard, reader: Any) -> tuple[int, Callable[[int], tuple[str, np.ndarray]]]:
    if card.family == "video-segmentation":
        return _frames([reader.load(index) for index in range(len(reader))], reader.ids)
    if card.family == "point-segmentation":
        return _frames([reader.frames(index) for index in range(len(reader))], reader.ids)
    images = getattr(reader, "images", reader)  # of a reader of pairs, its images by themselves
    if not callable(getattr(images, "size", None)):
        fix = "Leave the task out of the list."
        raise UserError(f"samples of the family {card.family} are no images that can be looked at", where=f"task {card.name}", fix=fix)
    return len(images), lambda place: (images.ids[place], images.load(place).image_HW3)


def _frames(clips: Sequence[Any], ids: Sequence[str]) -> tuple[int, Callable[[int], tuple[str, np.ndarray]]]:
    starts = [0, *accumulate(len(clip) for clip in clips)]

    def load(place: int) -> tuple[str, np.ndarray]:
        clip = bisect_right(starts, place) - 1
        frame = place - starts[clip]
        return f"{ids[clip]}/{frame}", clips[clip].load(frame).image_HW3

    return starts[-1], load
