"""Objects cut from rooms: crops that show them, folders that torchvision reads, lists in which every query has an answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from tips_bench.rooms.drawing.classes import NAMES
from tips_bench.rooms.generate import Room, room
from tips_bench.rooms.writing import class_crops as crops
from tips_bench.rooms.writing.class_crops import CLASSES, COVERED, FURNISHINGS, FURNITURE, LEAST, things
from tips_bench.rooms.writing.writers import Manifest, write_rooms

OPTIONS = {"seed": 3, "size": 64, "workers": 1}


@pytest.fixture(scope="module")
def drawn() -> Room:
    return room(3, "val", 0, frames=4, size=64)


def test_the_kinds_are_classes_of_the_rooms_and_the_domains_share_none() -> None:
    assert set(CLASSES) | set(FURNITURE) | set(FURNISHINGS) <= set(NAMES) and not set(FURNITURE) & set(FURNISHINGS)
    assert list(CLASSES) == sorted(CLASSES)


def test_a_crop_is_a_square_of_the_frame_that_holds_all_of_the_object_that_fits(drawn: Room) -> None:
    seen = 0
    for frame in drawn.frames:
        sizes = []
        for number, crop_HW3 in things(frame, drawn.scene, CLASSES):
            mask_HW = frame.instances_HW == number
            side = crop_HW3.shape[0]
            windows = np.lib.stride_tricks.sliding_window_view(frame.image_HW3, (side, side, 3))[:, :, 0]
            places = [(y, x) for y, x in np.ndindex(windows.shape[:2]) if np.array_equal(windows[y, x], crop_HW3)]
            assert crop_HW3.shape == (side, side, 3)
            assert any(mask_HW[y : y + side, x : x + side].sum() == mask_HW.sum() for y, x in places)
            assert mask_HW.sum() >= max(LEAST * 64 * 64, COVERED * side * side)
            sizes.append(int(mask_HW.sum()))
            seen += 1
        assert sizes == sorted(sizes, reverse=True)
    assert seen > 4


def test_class_crops_are_folders_that_torchvision_reads(tmp_path: Path) -> None:
    manifest = write_rooms("class-crops", tmp_path / "set", train=6, val=2, frames_per_scene=2, **OPTIONS)
    for split in ("train", "val"):
        theirs = ImageFolder(str(tmp_path / "set" / split))
        assert set(theirs.classes) <= {name.replace(" ", "_") for name in CLASSES}
        per_frame = Counter((label, Path(path).stem.rpartition("_")[0]) for path, label in theirs.samples)
        assert set(per_frame.values()) == {1}, "one of each class in a frame"
        assert {stem for _, stem in per_frame} <= set(manifest.groups)
    assert manifest.faults(tmp_path / "set") == []


def test_in_uneds_layout_every_query_has_an_answer_that_is_not_itself(tmp_path: Path) -> None:
    root = tmp_path / "set"
    manifest = write_rooms("uned", root, train=0, val=12, frames_per_scene=4, **OPTIONS)
    assert manifest == Manifest.read(root) and manifest.faults(root) == []
    lists = {name: json.loads((root / name).read_text()) for name in manifest.files if name.endswith(".json")}
    furniture, queries, index = (lists[f"info_files/{name}.json"] for name in ("furniture/test", "furnishings/test", "furnishings/index"))
    named = [entry["path"] for entry in furniture + queries + index]
    assert sorted(named) == sorted(name.removeprefix("images/") for name in manifest.files if name.endswith(".jpg"))
    assert len(set(named)) == len(named) and furniture and queries and index
    assert min(Counter(entry["class_id"] for entry in furniture).values()) > 1
    assert {entry["class_id"] for entry in queries} <= {entry["class_id"] for entry in index}
    for entry in furniture + queries + index:
        with Image.open(root / "images" / entry["path"]) as image:
            assert image.width == image.height
    of_id = {}
    for entry in furniture + queries + index:
        assert of_id.setdefault(entry["class_id"], Path(entry["path"]).parent) == Path(entry["path"]).parent


def test_the_lists_do_not_depend_on_the_order_of_names(tmp_path: Path) -> None:
    for order in (1, -1):
        folder = tmp_path / str(order)
        names = [f"images/furniture/val00000/chair/{frame:02d}_001.jpg" for frame in range(3)]
        names += ["images/furniture/val00000/bed/00_002.jpg", "images/furnishings/val00000/rug/01_003.jpg"]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode())
        hashes = crops.join_lists(folder, names[::order])
        assert "images/furniture/val00000/bed/00_002.jpg" not in hashes and len(hashes) == 4 + 3
    assert (tmp_path / "1/info_files/furniture/test.json").read_text() == (tmp_path / "-1/info_files/furniture/test.json").read_text()
