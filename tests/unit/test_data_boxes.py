"""VOC's and COCO's boxes as LOST reads them, and what broken files get."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tips_bench.cards import load_card
from tips_bench.data.boxes import coco20k, voc_boxes
from tips_bench.data.checks.images import check_boxes
from tips_bench.errors import UserError

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "parity" / "data" / "discovery.npz")
OBJECT = (
    "<object><name>{}</name><truncated>0</truncated><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def picture(path: Path, width: int = 400, height: int = 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 90, 30)).save(path)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/trainval.txt").write_text("000012\n000005\n000007\n")
    for id in ("000012", "000005", "000007"):
        picture(root / "JPEGImages" / f"{id}.jpg")
    boxes = OBJECT.format("a", 1, 1, 2, 30, 40) + OBJECT.format("b", 0, 11, 21, 300, 25)
    (root / "Annotations/000005.xml").write_text(f"<annotation>{boxes}</annotation>")
    (root / "Annotations/000012.xml").write_text(f"<annotation>{OBJECT.format('a', 0, 45.5, 1, 47.25, 60)}</annotation>")
    (root / "Annotations/000007.xml").write_text("<annotation><segmented>0</segmented></annotation>")
    return root


def test_voc_boxes_are_those_of_lost_and_images_without_any_are_left_out(voc: Path) -> None:
    for root in (voc, voc.parents[1]):
        reader = voc_boxes(root, "trainval")
        assert reader.ids == ["000005", "000012"] and reader.classes == ["a", "b"]
        np.testing.assert_array_equal(reader.load(0).boxes_N4, GOLDEN["voc/all"])
        np.testing.assert_array_equal(reader.load(1).boxes_N4, [[44.5, 0, 47.25, 60]])
        assert reader.load(0).kinds == ("a", "b") and reader.size(0) == (60, 400)
        assert reader.remarks == ("left out: 1 image without a box",)
    easy = voc_boxes(voc, "trainval", hard=False)
    np.testing.assert_array_equal(easy.load(0).boxes_N4, GOLDEN["voc/no-hard"])
    assert easy.fingerprint != reader.fingerprint


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<annotation><object>", "not an annotation of VOC"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "defines entities"),
        (f"<annotation>{OBJECT.format('a', 0, 5, 5, 2, 9)}</annotation>", "has no area"),
        (f"<annotation>{OBJECT.format('a', 0, 'x', 5, 2, 9)}</annotation>", "could not convert"),
        ("<annotation><object><name>a</name></object></annotation>", "an object without bndbox/xmin"),
    ],
)
def test_a_broken_annotation_is_named(voc: Path, text: str, fault: str) -> None:
    (voc / "Annotations/000005.xml").write_text(text)
    with pytest.raises(UserError, match=fault) as raised:
        voc_boxes(voc, "trainval")
    assert "000005.xml" in str(raised.value)


def test_what_is_missing_is_named(voc: Path) -> None:
    with pytest.raises(UserError, match=r"there is no ImageSets/Main/val\.txt"):
        voc_boxes(voc, "val")
    with pytest.raises(UserError, match="split"):
        voc_boxes(voc, "training")
    (voc / "Annotations/000005.xml").unlink()
    with pytest.raises(UserError, match="cannot read"):
        voc_boxes(voc, "trainval")
    (voc / "ImageSets/Main/trainval.txt").write_text("a\na\n")
    with pytest.raises(UserError, match="an image twice"):
        voc_boxes(voc, "trainval")


def test_the_check_counts_boxes_and_finds_one_that_leaves_its_image(voc: Path) -> None:
    report = check_boxes(voc_boxes(voc, "trainval"), expected=2)
    assert report.ok and report.facts == {"boxes": "3, 1 to 2 in an image", "classes": "2: a, b"}
    picture(voc / "JPEGImages" / "000012.jpg", width=40)
    faults = check_boxes(voc_boxes(voc, "trainval")).faults
    assert len(faults) == 1 and faults[0].startswith("000012: a box leaves")


def test_the_expected_counts_are_the_published_ones() -> None:
    published = {"voc2007-discovery": 5011, "voc2012-discovery": 11540, "coco20k-discovery": 19817}  # devkits; the list of LOST
    assert {name: list(load_card("task", name).data.expected.values()) for name in published} == {k: [v] for k, v in published.items()}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    names = [f"COCO_train2014_{number:012d}" for number in (9, 25, 30, 34)]
    for name in names[:3]:
        picture(tmp_path / "images" / "train2014" / f"{name}.jpg")
    (tmp_path / "coco_20k_filenames.txt").write_text("".join(f"train2014/{name}.jpg\n" for name in (names[1], names[0], names[2])))
    boxes = [(9, 1, 0, [0.5, 1.5, 10.2, 3.0]), (9, 1, 1, [0, 0, 5, 5]), (9, 7, 0, [2.49, 2.51, 7.01, 8.0]), (25, 7, 0, [1, 1, 2, 2])]
    boxes += [(34, 1, 0, [1, 1, 2, 2]), (30, 1, 1, [1, 1, 2, 2])]
    said = {
        "images": [{"id": int(name[-12:]), "file_name": f"{name}.jpg", "license": 3} for name in names],
        "annotations": [
            {"image_id": image, "category_id": kind, "iscrowd": crowd, "bbox": box, "id": place, "segmentation": [[1.0]]}
            for place, (image, kind, crowd, box) in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 7, "name": "train"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2014.json").write_text(json.dumps(said))
    return tmp_path


def test_coco_boxes_are_those_of_lost_for_the_listed_images(coco: Path) -> None:
    reader = coco20k(coco, "train2014")
    assert reader.ids == ["COCO_train2014_000000000009", "COCO_train2014_000000000025"] and reader.classes == ["person", "train"]
    np.testing.assert_array_equal(reader.load(0).boxes_N4, GOLDEN["coco/boxes"])
    assert reader.load(0).kinds == ("person", "train") and reader.remarks == ("left out: 1 image without a box",)
    (coco / "images" / "train2014").rename(coco / "train2014")
    assert coco20k(coco, "train2014").fingerprint == reader.fingerprint


def test_coco_files_that_do_not_fit_are_named(coco: Path) -> None:
    with pytest.raises(UserError, match="option"):
        coco20k(coco, "train2014", hard=False)
    with pytest.raises(UserError, match="split"):
        coco20k(coco, "val2014")
    listing = coco / "coco_20k_filenames.txt"
    listing.write_text(listing.read_text() + "train2014/COCO_train2014_000000000077.jpg\n")
    with pytest.raises(UserError, match="1 images of the list are not in it"):
        coco20k(coco, "train2014")
    (coco / "annotations/instances_train2014.json").write_text('{"images": [{"id": 1}]}')
    with pytest.raises(UserError, match=r"images\.0\.file_name"):
        coco20k(coco, "train2014")
    listing.unlink()
    with pytest.raises(UserError, match="there is no coco_20k"):
        coco20k(coco, "train2014")
