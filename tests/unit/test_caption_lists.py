"""Sets of captions in every form of list that they are passed around in give the same images and captions; a plain list of any set.

* Karpathy's dataset_coco.json and dataset_flickr30k.json: caption_files.py.
* BLIP and ALBEF: a JSON list of image and captions (salesforce/BLIP 056a169, data/coco_karpathy_dataset.py:85-115,
  data/flickr30k_dataset.py:52-82; salesforce/ALBEF b9727e4, dataset/caption_dataset.py:49-69, configs/Retrieval_coco.yaml:1-4).
* CLIP_benchmark: COCO's own form with the images of a split (LAION-AI/CLIP_benchmark 48de38c, clip_benchmark/datasets/builder.py:247-265),
  read by torchvision's CocoCaptions; Flickr30k as lines NAME.jpg,CAPTION after a heading (clip_benchmark/datasets/flickr.py:27-36), beside
  Kaggle's folder flickr30k_images (builder.py:327-329).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.caption_sets import NUMBERS, caption, coco, flickr30k, put, save
from tips_bench.data import captions as readers
from tips_bench.data.captions import CaptionedImages
from tips_bench.errors import UserError


def said_by(reader: CaptionedImages) -> dict[str, tuple[str, ...]]:
    assert not reader.faults
    return dict(zip(reader.ids, reader.captions, strict=True))


def _blip(root: Path, name: str, folder: str, before: CaptionedImages) -> Path:
    entries = [
        {"image": f"{folder}/{id}.jpg", "caption": list(captions), "image_id": id}
        for id, captions in zip(before.ids[::-1], before.captions[::-1], strict=True)
    ]
    put(root / name, entries)
    return root / name


@pytest.mark.parametrize("name", ["coco_karpathy_test.json", "annotation/coco_karpathy_test.json", "annotations/coco_test.json"])
@pytest.mark.parametrize("images", ["", "images"])
def test_coco_by_the_lists_of_blip_and_albef(name: str, images: str, tmp_path: Path) -> None:
    before = readers.coco_karpathy(coco(tmp_path), "test", captions=23)
    _blip(tmp_path, name, "val2014", before)
    (tmp_path / "dataset_coco.json").unlink()
    if images:
        (tmp_path / images).mkdir()
        (tmp_path / "val2014").rename(tmp_path / images / "val2014")
    reader = readers.coco_karpathy(tmp_path, "test", captions=23)
    assert said_by(reader) == said_by(before) and reader.fingerprint == before.fingerprint
    assert reader.layout.endswith(f"'s list, {name}") and before.layout == "Karpathy's split with COCO's captions, dataset_coco.json"


def test_coco_by_clip_benchmarks_list(tmp_path: Path) -> None:
    before = readers.coco_karpathy(coco(tmp_path), "test")
    images = [{"id": image, "file_name": f"COCO_val2014_{image:012d}.jpg"} for image in NUMBERS]
    notes = [{"id": 1000 * image + k, "image_id": image, "caption": caption(image, k)} for image in NUMBERS for k in range(NUMBERS[image])]
    put(tmp_path / "coco_test_karpathy.json", {"images": images, "annotations": notes})
    (tmp_path / "dataset_coco.json").unlink()
    (tmp_path / "annotations/captions_val2014.json").unlink()
    reader = readers.coco_karpathy(tmp_path, "test")
    assert said_by(reader) == said_by(before) and reader.layout == "CLIP_benchmark's list, coco_test_karpathy.json"


@pytest.mark.parametrize("folder", ["flickr30k-images", "flickr30k_images", "Images", ""])
def test_flickr30k_by_clip_benchmarks_list_and_in_the_folders_it_is_kept_in(folder: str, tmp_path: Path) -> None:
    before = readers.flickr30k(flickr30k(tmp_path), "test")
    lines = ["image,caption", *(f"{id}.jpg,{text}, it says" for id, said in said_by(before).items() for text in said), ""]
    (tmp_path / "flickr30k_test_karpathy.txt").write_text("\n".join(lines))
    (tmp_path / "dataset_flickr30k.json").unlink()
    for path in sorted((tmp_path / "flickr30k-images").iterdir()):
        (tmp_path / folder).mkdir(exist_ok=True)
        path.rename(tmp_path / folder / path.name)
    reader = readers.flickr30k(tmp_path, "test", captions=15)
    assert said_by(reader) == {id: tuple(f"{text}, it says" for text in said) for id, said in said_by(before).items()}
    assert reader.load(0).image_HW3.shape == (24, 36, 3)


def test_flickr30k_by_the_list_of_blip_and_albef(tmp_path: Path) -> None:
    before = readers.flickr30k(flickr30k(tmp_path), "test")
    _blip(tmp_path, "flickr30k_test.json", "flickr30k-images", before)
    (tmp_path / "dataset_flickr30k.json").unlink()
    assert said_by(readers.flickr30k(tmp_path, "test")) == said_by(before)


def test_all_lists_that_were_looked_for_are_named(tmp_path: Path) -> None:
    words = r"no dataset_coco\.json, nor coco_test_karpathy\.json, nor coco_karpathy_test\.json, nor coco_test\.json"
    with pytest.raises(UserError, match=words):
        readers.coco_karpathy(tmp_path, "test")
    with pytest.raises(UserError, match="points outside the folder"):
        readers.coco_karpathy(tmp_path, "../x")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("coco_test.json", '[{"image": "val2014/a.jpg"}]', r"0\.caption: Field required"),
        ("coco_test.json", '[{"image": "../a.jpg", "caption": "a"}]', "points outside the folder"),
        ("coco_test.json", "[", r"coco_test\.json"),
        ("coco_test.json", "[]", "the list is empty"),
        ("flickr30k_test_karpathy.txt", "image,caption\na.png,x\n", r"line 2 is not NAME\.jpg,CAPTION"),
        ("flickr30k_test_karpathy.txt", "image,caption\n", "the list is empty"),
    ],
)
def test_a_list_that_is_none_is_named(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        (readers.coco_karpathy if name.startswith("coco") else readers.flickr30k)(tmp_path, "test")


def _table(root: Path) -> None:
    (root / "val.csv").write_text(
        'image,caption\na/my cat.jpg,"A cat, asleep."\nb.PNG,A dog.\na/my cat.jpg,Ein Kater.\n', encoding="utf-8-sig"
    )


def _lines(root: Path) -> None:
    entries = [{"image": "a/my cat.jpg", "caption": ["A cat, asleep.", "Ein Kater."], "url": "x"}, {"image": "b.PNG", "caption": "A dog."}]
    (root / "val.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + "\n")


@pytest.mark.parametrize("write", [_table, _lines])
@pytest.mark.parametrize("folder", ["images", ""])
def test_a_plain_list_gives_images_with_their_captions(write: Callable[[Path], None], folder: str, tmp_path: Path) -> None:
    for name in ("a/my cat.jpg", "b.PNG"):
        save(tmp_path / folder / name, len(name))
    write(tmp_path)
    reader = readers.captions_folder(tmp_path, "val", captions=3, group="^(.)")
    assert said_by(reader) == {"a/my cat": ("A cat, asleep.", "Ein Kater."), "b": ("A dog.",)}
    assert reader.groups == ["a", "b"] and reader.load(1).image_HW3.shape == (24, 36, 3)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("val.csv", "picture,text\na.jpg,x\n", "row 2 has no image or no caption"),
        ("val.csv", "image,caption\na.jpg\n", "row 2 has no image or no caption"),
        ("val.csv", 'image,caption\na.jpg,"x\n', "not a table"),
        ("val.csv", "image,caption\n", "the list is empty"),
        ("val.jsonl", '{"image": "a.jpg"}\n', "line 1: caption: Field required"),
        ("val.jsonl", "\n{\n", "line 2: "),
        ("val.csv", "image,caption\n/etc/a.jpg,x\n", "points outside the folder"),
        ("val.csv", "image,caption\nnone.jpg,x\n", "an image that the split names is missing"),
        ("other", "", r"there is no val\.csv, nor val\.jsonl.*Write SPLIT\.csv"),
    ],
)
def test_a_plain_list_that_is_none_is_named(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        readers.captions_folder(tmp_path, "val")


def test_a_table_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_bytes("image,caption\na.jpg,Straße\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"val\.csv: not UTF-8"):
        readers.captions_folder(tmp_path, "val")
