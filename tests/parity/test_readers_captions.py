"""Sets of captions that rooms write, as pycocotools, torchvision and plain JSON read them, beside our readers."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoCaptions

from tips_bench.cli.data import rooms
from tips_bench.data.captions import coco_karpathy, docci, flickr30k
from tips_bench.data.checks.captions import check
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.caption_sets import said
from tips_bench.rooms.writing.layout_table import LAYOUTS
from tips_bench.rooms.writing.writers import Manifest, write_rooms

OPTIONS = {"seed": 3, "train": 2, "val": 4, "size": 48, "frames_per_scene": 2, "workers": 1}
READERS = {"coco-captions": coco_karpathy, "flickr30k": flickr30k, "docci": docci}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("captions")
    for layout in READERS:
        write_rooms(layout, folder / layout, **OPTIONS)
    return {layout: folder / layout for layout in READERS}


def test_coco_is_read_as_pycocotools_reads_it_with_5_6_and_7_captions(roots: dict[str, Path]) -> None:
    root = roots["coco-captions"]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(root / "annotations/captions_val2014.json"))
    reader = coco_karpathy(root, "test")
    assert not reader.faults and len(reader) == len(theirs.imgs) == 4
    for id, captions in zip(reader.ids, reader.captions, strict=True):
        number = int(id[-12:])
        assert theirs.imgs[number]["file_name"] == f"{id}.jpg"
        assert sorted(captions) == sorted(note["caption"] for note in theirs.imgToAnns[number])
    assert {len(captions) for captions in reader.captions} == {5, 6, 7}


def test_coco_is_read_as_torchvision_reads_it(roots: dict[str, Path]) -> None:
    root = roots["coco-captions"]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = CocoCaptions(str(root / "val2014"), str(root / "annotations/captions_val2014.json"))
    reader = coco_karpathy(root, "test")
    assert len(reader) == len(theirs)
    for index, (image, captions) in enumerate(theirs):
        sample = reader.load(index)
        assert sample.captions == tuple(captions)
        assert np.abs(sample.image_HW3.astype(int) - np.asarray(image)).max() <= 3  # two JPEG decoders


@pytest.mark.parametrize(("layout", "index"), [("coco-captions", "dataset_coco.json"), ("flickr30k", "dataset_flickr30k.json")])
def test_splits_are_those_of_the_karpathy_file_and_its_sentences_the_captions(roots: dict[str, Path], layout: str, index: str) -> None:
    entries = json.loads((roots[layout] / index).read_text())["images"]
    assert Counter(entry["split"] for entry in entries) == {"train": 2, "test": 4}
    for split in ("train", "test"):
        reader = READERS[layout](roots[layout], split)
        wanted = {Path(entry["filename"]).stem: entry for entry in entries if entry["split"] == split}
        assert reader.ids == sorted(wanted)
        for id, captions in zip(reader.ids, reader.captions, strict=True):
            assert captions == tuple(sentence["raw"] for sentence in wanted[id]["sentences"])
            assert len(wanted[id]["sentids"]) == len(captions)


def test_docci_has_the_careful_account_of_each_image_and_its_four_fields(roots: dict[str, Path]) -> None:
    lines = [json.loads(line) for line in (roots["docci"] / "docci_descriptions.jsonlines").read_text().splitlines()]
    assert all(set(line) == {"split", "example_id", "image_file", "description"} for line in lines)
    reader, drawn = docci(roots["docci"], "test"), room(3, "val", 0, frames=2, size=48)
    assert reader.captions[:2] == [(synthetic,) for _, synthetic in drawn.captions]


@pytest.mark.parametrize("layout", READERS)
def test_images_are_the_rooms_and_a_look_finds_no_fault(roots: dict[str, Path], layout: str) -> None:
    reader = READERS[layout](roots[layout], "test")
    drawn = room(3, "val", 0, frames=2, size=48)
    for index, frame in enumerate(drawn.frames):
        assert np.abs(reader.load(index).image_HW3.astype(int) - frame.image_HW3).mean() < 5
    assert check(reader, expected=4).ok
    assert not Manifest.read(roots[layout]).faults(roots[layout])


@pytest.mark.parametrize("layout", READERS)
def test_the_same_seed_gives_the_same_bytes(roots: dict[str, Path], layout: str, tmp_path: Path) -> None:
    again = write_rooms(layout, tmp_path / "again", **OPTIONS)
    assert again.files == Manifest.read(roots[layout]).files
    with Image.open(next((tmp_path / "again").rglob("*.jpg"))) as image:
        assert image.size == (48, 48)


def test_any_room_has_seven_different_captions() -> None:
    short = ("IMG_1 sofa", "A bedroom with a grey floor.")
    assert len(set(said(short, 7))) == 7
    long = ("web", "A kitchen with a floor. There is a stove on the left. There are two chairs. There is a lamp.")
    assert said(long, 4) == [
        long[1],
        "web",
        "A kitchen with a floor. There is a stove on the left.",
        "A kitchen with a floor. There are two chairs.",
    ]


def test_the_command_offers_these_layouts() -> None:
    offered = rooms.__annotations__["layout"]
    assert all(repr(layout) in str(offered) and layout in LAYOUTS for layout in READERS)
