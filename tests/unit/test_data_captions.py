"""Readers of captions, and a look at a set before it is scored: what they give, and what each fault says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.helpers.caption_sets import NUMBERS, SETS, caption, change, coco, docci, flickr30k
from tips_bench.cards import load_card
from tips_bench.data import captions as readers
from tips_bench.data.checks.captions import check
from tips_bench.data.checks.task import check_task
from tips_bench.data.images import read_image
from tips_bench.errors import UserError

READ = {"coco": readers.coco_karpathy, "flickr30k": readers.flickr30k, "docci": readers.docci}
INDEX = {"coco": "dataset_coco.json", "flickr30k": "dataset_flickr30k.json", "docci": "docci_descriptions.jsonlines"}


def test_coco_gives_the_images_of_karpathys_split_with_all_their_captions(tmp_path: Path) -> None:
    reader = readers.coco_karpathy(coco(tmp_path), "test", captions=23)
    assert reader.ids == [f"COCO_val2014_{image:012d}" for image in sorted(NUMBERS)] == reader.groups
    assert not reader.faults and len(reader) == 4
    for index, image in enumerate(sorted(NUMBERS)):
        sample = reader.load(index)
        assert sample.captions == reader.captions[index] == tuple(caption(image, k) for k in range(NUMBERS[image]))
        assert np.array_equal(sample.image_HW3, read_image(tmp_path / "val2014" / f"{sample.id}.jpg"))
        assert reader.size(index) == sample.image_HW3.shape[:2] == (24, 36)
    assert readers.coco_karpathy(tmp_path, "val").ids == ["COCO_val2014_000000000099"]


def test_flickr30k_gives_five_captions_an_image(tmp_path: Path) -> None:
    reader = readers.flickr30k(flickr30k(tmp_path), "test", captions=15)
    assert reader.ids == ["1000092795", "1000268201", "7"] and [len(said) for said in reader.captions] == [5] * 3
    assert reader.load(2).captions[4] == caption(7, 4)


def test_docci_gives_one_description_an_image_as_it_is(tmp_path: Path) -> None:
    reader = readers.docci(docci(tmp_path), "test", captions=2)
    assert reader.ids == ["test_00000", "test_00001"]
    assert reader.captions[0] == ("A long account of test_00000. " + "Word " * 80,)
    assert readers.docci(tmp_path, "qual_dev").ids == ["qual_dev_00000"]


@pytest.mark.parametrize("kind", SETS)
def test_the_fingerprint_follows_ids_images_and_captions(kind: str, tmp_path: Path) -> None:
    root = SETS[kind](tmp_path)
    first, again = (READ[kind](root, "test").fingerprint for _ in range(2))
    file = next(path for path in root.rglob("*.jpg") if path.stem in READ[kind](root, "test").ids)
    file.write_bytes(file.read_bytes() + b"\0")
    changed = READ[kind](root, "test").fingerprint
    index = root / ("annotations/captions_val2014.json" if kind == "coco" else INDEX[kind])
    index.write_text(index.read_text().replace("way 2", "way two").replace("long account", "brief account"))
    assert first == again and len({first, changed, READ[kind](root, "test").fingerprint}) == 3


def test_groups_are_told_from_ids(tmp_path: Path) -> None:
    assert readers.docci(docci(tmp_path), "test", group="^(test)_").groups == ["test", "test"]
    with pytest.raises(UserError, match="does not match the id"):
        readers.docci(tmp_path, "test", group="^(train)_")


@pytest.mark.parametrize("kind", SETS)
def test_what_is_missing_is_named_with_how_to_get_it(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"there is no {INDEX[kind]}.*Into data|there is no {INDEX[kind]}.*Ask for"):
        READ[kind](tmp_path / "nowhere", "test")
    root = SETS[kind](tmp_path / "set")
    with pytest.raises(UserError, match=r"no split named 'tset'.*Did you mean 'test'"):
        READ[kind](root, "tset")
    with pytest.raises(UserError, match="'captoins'"):
        READ[kind](root, "test", captoins=3)
    files = sorted(path for path in root.rglob("*.jpg") if path.stem in READ[kind](root, "test").ids)
    for file in files[:2]:
        file.unlink()
    with pytest.raises(UserError, match=rf"an image that the split names is missing \(2 of {len(files)}"):
        READ[kind](root, "test")


def test_cocos_own_captions_have_to_be_there(tmp_path: Path) -> None:
    (coco(tmp_path) / "annotations/captions_val2014.json").unlink()
    with pytest.raises(UserError, match=r"captions_val2014\.json: the file of COCO's captions is missing"):
        readers.coco_karpathy(tmp_path, "test")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("coco", "{", "Invalid JSON"),
        ("coco", '{"images": [{"filename": "a.jpg"}]}', r"images\.0\.split: Field required"),
        ("flickr30k", '{"images": [{"filename": "../a.jpg", "split": "test", "sentences": []}]}', "points outside the folder"),
        ("flickr30k", '{"images": [{"filename": 3, "split": "test", "sentences": []}]}', r"images\.0\.filename: Input should be"),
        ("docci", '{"split": "test"}', "line 1: example_id: Field required"),
        ("docci", "nonsense", "line 1: Invalid JSON"),
        ("docci", '{"split": "test", "example_id": "a", "image_file": "/etc/a.jpg", "description": "x"}', "points outside the folder"),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_one_sentence(kind: str, text: str, message: str, tmp_path: Path) -> None:
    root = SETS[kind](tmp_path)
    (root / INDEX[kind]).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        READ[kind](root, "test")
    assert "\n" not in str(error.value) and INDEX[kind] in str(error.value)


def notes(root: Path) -> Path:
    return root / "annotations/captions_val2014.json"


def faults(root: Path, **options: int) -> list[str]:
    return readers.coco_karpathy(root, "test", **options).faults


def test_each_fault_of_coco_is_a_sentence(tmp_path: Path) -> None:
    root = coco(tmp_path)

    def spoil(data: dict) -> None:
        data["annotations"] += [{"id": 1, "image_id": 8, "caption": "of nothing"}, {"id": 42000, "image_id": 42, "caption": "again"}]
        data["annotations"] = [note for note in data["annotations"] if note["image_id"] != 73]
        data["images"] = [image for image in data["images"] if image["id"] != 74] + data["images"][:1]
        next(note for note in data["annotations"] if note["id"] == 391895003)["caption"] = " \n"

    change(notes(root), spoil)
    found = faults(root, captions=23)
    assert found == [
        "captions_val2014.json: image 42 is there twice",
        "captions_val2014.json: caption 42000 is there twice",
        *(f"captions_val2014.json: caption {74000 + k} is of image 74, which is not there" for k in (0, 2, 4, 1, 3)),
        "captions_val2014.json: caption 1 is of image 8, which is not there",
        "an empty caption of COCO_val2014_000000391895",
        "COCO_val2014_000000000074: image 74 is not in captions_val2014.json",
        "COCO_val2014_000000000073 has no caption",
        "COCO_val2014_000000000074 has no caption",
        "13 captions, expected 23",
    ]


def test_an_id_that_is_there_twice_is_a_fault(tmp_path: Path) -> None:
    change(coco(tmp_path / "coco") / "dataset_coco.json", lambda data: data["images"].append(data["images"][1]))
    assert "the id 'COCO_val2014_000000000073' is there twice" in faults(tmp_path / "coco")
    root = docci(tmp_path / "docci")
    lines = (root / INDEX["docci"]).read_text()
    (root / INDEX["docci"]).write_text(lines + lines.splitlines()[0])
    assert readers.docci(root, "test").faults == ["the id 'test_00001' is there twice"]


def test_an_image_without_captions_and_an_empty_one_are_faults_of_flickr30k(tmp_path: Path) -> None:
    def spoil(data: dict) -> None:
        data["images"][0]["sentences"] = []
        data["images"][2]["sentences"][1]["raw"] = ""

    change(flickr30k(tmp_path) / INDEX["flickr30k"], spoil)
    assert readers.flickr30k(tmp_path, "test").faults == ["an empty caption of 1000268201", "1000092795 has no caption"]


def test_a_look_at_a_good_set_counts_images_captions_and_words(tmp_path: Path) -> None:
    report = check(readers.coco_karpathy(coco(tmp_path), "test"), expected=4)
    assert report.ok and report.samples == 4 and report.sizes == {"24x36": 4}
    assert report.facts["captions"] == "23 (5 of 2 images, 6 of 1 image, 7 of 1 image)"
    assert report.facts["words a caption"] == "6 (median), 6 to 6"
    assert report.facts["cut at 64 tokens (TIPS, SigLIP)"] == "0 captions at least"
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    assert "23 (5 of 2 images" in console.file.getvalue()  # type: ignore[attr-defined]
    assert json.loads(json.dumps(report.to_json()))["facts"] == report.facts


def test_captions_that_are_certainly_cut_are_counted(tmp_path: Path) -> None:
    report = check(readers.docci(docci(tmp_path), "test"))
    assert report.facts["cut at 64 tokens (TIPS, SigLIP)"] == report.facts["cut at 77 tokens (CLIP)"] == "2 captions at least"
    lines = [json.loads(line) for line in (tmp_path / INDEX["docci"]).read_text().splitlines()]
    lines[0]["description"], lines[1]["description"] = "word " * 64, "word " * 75
    (tmp_path / INDEX["docci"]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = check(readers.docci(tmp_path, "test"))
    assert report.facts["cut at 64 tokens (TIPS, SigLIP)"] == "1 caption at least"
    assert report.facts["cut at 77 tokens (CLIP)"] == "0 captions at least"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_look_lists_all_faults_broken_images_too(tmp_path: Path, workers: int) -> None:
    root = coco(tmp_path)
    change(notes(root), lambda data: data["annotations"].append({"id": 1, "image_id": 8, "caption": "of nothing"}))
    (root / "val2014/COCO_val2014_000000000042.jpg").write_bytes(b"no image")
    report = check(readers.coco_karpathy(root, "test"), expected=5, workers=workers)
    assert [fault.split(": ", 1)[-1] for fault in report.faults] == [
        "caption 1 is of image 8, which is not there",
        "not a JPEG or PNG image. Fetch it again.",
        "4 images, expected 5",
    ]
    assert report.sizes == {"24x36": 3}


def test_captions_that_images_share_are_told(tmp_path: Path) -> None:
    change(notes(coco(tmp_path)), lambda data: [note.update(caption="A dog.") for note in data["annotations"][:4]])
    report = check(readers.coco_karpathy(tmp_path, "test"))
    assert report.ok and len(report.remarks) == 1 and "captions of several images: 1, for example 'a dog.'" in report.remarks[0]


def test_a_task_of_one_split_has_one_report(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    reports = check_task(load_card("task", "coco-retrieval"), tmp_path)
    assert [report.split for report in reports] == ["test"]
    assert reports[0].faults == ["23 captions, expected 25010", "4 images, expected 5000"]
    assert check_task(load_card("task", "docci-retrieval"), tmp_path)[0].faults[0].startswith(f"{tmp_path}/docci: there is no docci_desc")
