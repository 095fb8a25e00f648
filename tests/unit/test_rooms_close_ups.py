"""Close-ups show, and speak of, a part of a frame."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from tests.unit.test_rooms_captions import named as things_in
from tips_bench.rooms.captions import SHELL, visible
from tips_bench.rooms.drawing.classes import NAMES
from tips_bench.rooms.generate import Room, room
from tips_bench.rooms.writing.close_ups import LEAST, close_up, cut_out, described, named
from tips_bench.rooms.writing.layout_table import LAYOUTS
from tips_bench.rooms.writing.writers import write_rooms

SIZE = 96
SIDES = (0.28, 0.65)


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return [room(8, "val", number, frames=2, size=SIZE) for number in range(4)]


def test_the_rays_of_a_close_up_are_those_of_the_frame_it_is_cut_from(rooms: list[Room]) -> None:
    frame = rooms[0].frames[0]
    part = close_up(frame, 10, 30, 40)
    rays = frame.camera.pixel_rays().reshape(SIZE, SIZE, 6)[10:50, 30:70]
    assert np.allclose(part.camera.pixel_rays().reshape(40, 40, 6), rays, atol=1e-6)
    assert np.array_equal(part.image_HW3, frame.image_HW3[10:50, 30:70]) and part.depth_HW.shape == (40, 40)


def test_close_ups_are_squares_within_the_frame_and_differ(rooms: list[Room]) -> None:
    rng = np.random.default_rng(0)
    sides = [cut_out(rooms[1].frames[0], rooms[1].scene, SIDES, rng)[0].image_HW3.shape for _ in range(40)]
    assert all(height == width and round(SIDES[0] * SIZE) <= width <= round(SIDES[1] * SIZE) for height, width, _ in sides)
    assert len(set(sides)) > 10


def test_every_kind_of_thing_in_view_gets_its_close_ups(rooms: list[Room]) -> None:
    drawn, rng = rooms[2], np.random.default_rng(1)
    frame = drawn.frames[0]
    kinds = {drawn.scene.instances[seen.number].kind for seen in visible(drawn.scene, frame, shell=True)}
    views = [cut_out(frame, drawn.scene, SIDES, rng)[0] for _ in range(60 * len(kinds))]
    met = {drawn.scene.instances[n - 1].kind for view in views for n in np.unique(view.instances_HW) if n}
    assert kinds <= met


def test_captions_name_what_a_close_up_shows_and_nothing_else(rooms: list[Room]) -> None:
    rng, checked = np.random.default_rng(2), 0
    for drawn in rooms:
        for frame in drawn.frames:
            view, kind = cut_out(frame, drawn.scene, SIDES, rng)
            seen = [one for one in visible(drawn.scene, view, shell=True) if one.share >= LEAST]
            if not seen:
                continue
            whole, short = described(drawn.scene, seen)
            there = {NAMES[k] for k in np.unique(view.classes_HW) if k < len(NAMES)}
            assert things_in(short) <= things_in(whole) <= there, (whole, there)
            things = [drawn.scene.instances[one.number].kind for one in seen if drawn.scene.instances[one.number].kind not in SHELL]
            assert not things or things[0] in things_in(short)
            careful, bare, *chief = named(drawn.scene, seen, kind)
            assert careful == whole and things_in(bare) == things_in(whole)
            # nothing but the names: no colour, no material
            assert all(word in " ".join(_plain(NAMES)) for word in bare.lower().rstrip(".").replace(",", "").split()), bare
            assert kind in things_in(bare) if chief else kind not in things_in(bare)
            assert not chief or things_in(chief[0]) == {kind}
            checked += 1
    assert checked == 8


def _plain(names: tuple[str, ...]) -> list[str]:
    return ["a", "an", "and", "books", "curtains", "flowers", *names]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "most"), [("webdataset-close-ups", 2), ("webdataset-details", 3)])
def test_shards_of_close_ups_hold_each_frame_and_its_parts_and_are_the_same_twice(tmp_path: Path, layout: str, most: int) -> None:
    per_frame = LAYOUTS[layout].per_frame
    options = {"seed": 3, "train": 3, "val": 1, "size": 64, "frames_per_scene": 2}
    first = write_rooms(layout, tmp_path / "one", workers=1, **options)
    second = write_rooms(layout, tmp_path / "two", workers=2, **options)
    assert first.files == second.files and list(first.files) == ["train-000.tar", "val-000.tar"]
    read = list(wds.WebDataset(str(tmp_path / "one" / "train-000.tar"), shardshuffle=False))
    keys = [one["__key__"] for one in read]
    frames = ["train00000_00", "train00000_01", "train00001_00"]
    assert [key for key in keys if key.count("_") == 1] == frames
    assert set(keys) <= {f"{frame}_{k}" for frame in frames for k in range(per_frame)} | set(frames) and len(keys) > 3 * per_frame
    for one in read:
        said = json.loads(one["json"])
        side = Image.open(io.BytesIO(one["jpg"])).width
        assert said["web"] and 1 <= len(said["synthetic"]) <= most and (side == 64) == (one["__key__"] in frames)
