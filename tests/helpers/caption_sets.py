"""Small sets of images with captions, in the layouts of COCO with Karpathy's split, Flickr30k and DOCCI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers.segmentation_sets import picture

# Images of the test split and how many captions each has.
NUMBERS = {42: 5, 73: 6, 391895: 7, 74: 5}


def caption(image: int, number: int) -> str:
    return f"Picture {image} said in way {number}."


def coco(root: Path) -> Path:
    """Four images of Karpathy's test split and one of val, all in val2014."""
    split = {**dict.fromkeys(NUMBERS, "test"), 99: "val"}
    numbers = NUMBERS | {99: 5}
    images, entries, notes = [], [], []
    for image, where in split.items():
        name = f"COCO_val2014_{image:012d}.jpg"
        save(root / "val2014" / name, image)
        images.append({"id": image, "file_name": name, "height": 24, "width": 36, "license": 1})
        said = [caption(image, k) for k in range(numbers[image])]
        notes += [{"id": 1000 * image + k, "image_id": image, "caption": text} for k, text in enumerate(said)]
        sentences = [{"raw": text, "tokens": text.split(), "imgid": 0, "sentid": 0} for text in said]
        entries.append({"filepath": "val2014", "filename": name, "cocoid": image, "split": where, "sentences": sentences, "imgid": 0})
    notes = notes[::2] + notes[1::2]  # the release is in no order
    put(root / "annotations/captions_val2014.json", {"info": {}, "licenses": [], "images": images, "annotations": notes})
    put(root / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    return root


def flickr30k(root: Path) -> Path:
    """Three images of test and one of train, five captions each."""
    entries = []
    for image, split in ((1000092795, "test"), (10002456, "train"), (1000268201, "test"), (7, "test")):
        save(root / "flickr30k-images" / f"{image}.jpg", image)
        sentences = [{"raw": caption(image, k), "tokens": [], "imgid": 0, "sentid": 0} for k in range(5)]
        entries.append({"filename": f"{image}.jpg", "split": split, "sentences": sentences, "sentids": [], "imgid": 0})
    put(root / "dataset_flickr30k.json", {"images": entries, "dataset": "flickr30k"})
    return root


def docci(root: Path) -> Path:
    """Two images of test, one of train and one of qual_dev, a long description each."""
    lines = []
    for id, split in (("test_00001", "test"), ("test_00000", "test"), ("train_00000", "train"), ("qual_dev_00000", "qual_dev")):
        save(root / "images" / f"{id}.jpg", len(lines))
        lines.append(
            {"split": split, "example_id": id, "image_file": f"{id}.jpg", "description": f"A long account of {id}. " + "Word " * 80}
        )
    path = root / "docci_descriptions.jsonlines"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


SETS: dict[str, Callable[[Path], Path]] = {"coco": coco, "flickr30k": flickr30k, "docci": docci}


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, quality=95)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Edit a JSON file in place."""
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))
