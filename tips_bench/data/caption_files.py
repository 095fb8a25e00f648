"""The files that list images with their captions, each in the form that its source gives it.

    dataset_coco.json, dataset_flickr30k.json       Karpathy and Fei-Fei (CVPR 2015); of COCO it gives the split alone, and the captions
                                                    are those of annotations/captions_val2014.json, read with pycocotools
    coco_karpathy_test.json, coco_test.json,        [{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": [...]}, ...]: BLIP and
    flickr30k_test.json                             ALBEF (salesforce/BLIP 056a169, data/coco_karpathy_dataset.py:85-115 and
                                                    flickr30k_dataset.py:52-82; salesforce/ALBEF b9727e4, dataset/caption_dataset.py:49-69)
    coco_test_karpathy.json                         a file of COCO's captions with the images of the split alone: CLIP_benchmark
                                                    (LAION-AI/CLIP_benchmark 48de38c, clip_benchmark/datasets/builder.py:247-265)
    flickr30k_test_karpathy.txt                     a first line, then NAME.jpg,CAPTION: CLIP_benchmark (flickr.py:27-36)
    docci_descriptions.jsonlines                    DOCCI (Onoe et al., ECCV 2024)
    SPLIT.csv, SPLIT.jsonl                          any set: image and caption, a line each

BLIP and ALBEF lower and clean the captions in code of their own; what is read here is the text as it stands in the file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tips_bench.data.dataset_files import inside, read_lines
from tips_bench.errors import UserError

COCO_CAPTIONS = "annotations/captions_{folder}.json"
FLICKR_IMAGES = ("flickr30k-images", "flickr30k_images", "Images", "images", "")


@dataclass
class Listed:
    """What a set's files say. files: id -> image file; captions: id -> its captions, in the set's order. faults: a sentence each."""

    files: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def image(self, id: str, file: Path) -> None:
        """List an image; a second one of its id is a fault."""
        if id in self.files:
            self.faults.append(f"the id {id!r} is there twice")
        self.files[id] = file
        self.captions.setdefault(id, [])

    def caption(self, id: str, text: str) -> None:
        """List a caption of an image; an empty one is a fault."""
        if not text.strip():
            self.faults.append(f"an empty caption of {id}")
        self.captions[id].append(text)


class Known(BaseModel):
    """What is used of a publisher's file; whatever else it holds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Sentence(Known):
    """A caption in a Karpathy file."""

    raw: str


class SplitImage(Known):
    """An image in a Karpathy file; COCO's have the folder and the number of the image in COCO, too."""

    filename: str
    split: str
    sentences: list[Sentence]
    filepath: str = ""
    cocoid: int | None = None


class ListedImage(Known):
    """An image with its captions in a list of BLIP, ALBEF or any other set; one text or several."""

    image: str
    caption: str | list[str]


class Splits(Known):
    """A Karpathy file."""

    images: list[SplitImage]


class CocoImage(Known):
    """An image in a file of COCO's captions."""

    id: int
    file_name: str = ""


class CocoCaption(Known):
    """A caption in a file of COCO's captions."""

    id: int
    image_id: int
    caption: str


class CocoCaptions(Known):
    """A file of COCO's captions."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


class Description(Known):
    """A line of DOCCI's descriptions."""

    example_id: str
    split: str
    image_file: str
    description: str


KnownT = TypeVar("KnownT", bound=Known)
LISTED = TypeAdapter(list[ListedImage])


def read_json(kind: type[KnownT], path: Path, data: bytes | None = None, line: str = "") -> KnownT:
    """A publisher's file, or a line of one. Errors: a file that cannot be read, or does not hold what it should."""
    try:
        return kind.model_validate_json(read_bytes(path) if data is None else data)
    except ValidationError as error:
        raise _invalid(error, path, line) from error


def read_bytes(path: Path) -> bytes:
    """All of a file. Errors: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error


def _invalid(error: ValidationError, path: Path, line: str = "") -> UserError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return UserError(f"{line}{key and key + ': '}{first['msg']}", where=path, fix="Get the file again.")


def karpathy_flickr30k(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """Karpathy's file of Flickr30k, with its captions."""
    chosen, splits = _in_split(path, split)
    listed = Listed()
    for image in chosen:
        id = Path(image.filename).stem
        listed.image(id, first_there(root, FLICKR_IMAGES, inside(image.filename, path)))
        for sentence in image.sentences:
            listed.caption(id, sentence.raw)
    return listed, splits


def karpathy_coco(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """Karpathy's split of COCO, with COCO's captions."""
    chosen, splits = _in_split(path, split)
    listed = Listed()
    known = {folder: _CocoFile(root / COCO_CAPTIONS.format(folder=inside(folder, path)), how) for folder in {i.filepath for i in chosen}}
    for file in known.values():
        listed.faults += file.faults
    for image in chosen:
        id = Path(image.filename).stem
        listed.image(id, _coco_image(root, f"{image.filepath}/{inside(image.filename, path)}"))
        said = known[image.filepath].captions(image.cocoid)
        if said is None:
            listed.faults.append(f"{id}: image {image.cocoid} is not in {known[image.filepath].path.name}")
        for caption in said or ():
            listed.caption(id, caption)
    return listed, splits


def benchmark_coco(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """CLIP_benchmark's file of a split of COCO: images of the folder train2014 or val2014."""
    file, listed = _CocoFile(path, how), Listed()
    listed.faults += file.faults
    folder = "train2014" if split == "train" else "val2014"
    for number, name in file.names.items():
        id = Path(name).stem
        listed.image(id, _coco_image(root, f"{folder}/{inside(name, path)}"))
        for caption in file.captions(number) or ():
            listed.caption(id, caption)
    return listed, {split}


def benchmark_flickr30k(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """CLIP_benchmark's list of a split of Flickr30k, whose first line is a heading; a caption may hold commas."""
    listed = Listed()
    for number, line in enumerate(read_lines(path)[1:], 2):
        name, found, caption = line.partition(".jpg,")
        if not found:
            raise UserError(f"line {number} is not NAME.jpg,CAPTION", where=path, fix="Get the file again.")
        if name not in listed.files:
            listed.image(name, first_there(root, FLICKR_IMAGES, inside(f"{name}.jpg", path)))
        listed.caption(name, caption)
    return listed, {split}


def salesforce(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """A list of BLIP or ALBEF; an image's path has its folder, train2014, val2014 or flickr30k-images."""
    try:
        entries = LISTED.validate_json(read_bytes(path))
    except ValidationError as error:
        raise _invalid(error, path) from error
    listed = Listed()
    for entry in entries:
        _add(listed, Path(entry.image).stem, _coco_image(root, inside(entry.image, path)), entry.caption)
    return listed, {split}


def plain_list(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """A list of any set: a table with the columns image and caption, or a JSON object with those keys a line.

    An id is the image's path without its suffix. An image may stand on several lines, a caption each.
    """
    listed = Listed()
    entries = _rows(path) if path.suffix == ".csv" else _objects(path)
    for entry in entries:
        id = str(Path(entry.image).with_suffix("")) if entry.image else ""
        _add(listed, id, first_there(root, ("images", ""), inside(entry.image, path)), entry.caption)
    return listed, {split}


def _rows(path: Path) -> list[ListedImage]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8: {error}", where=path, fix="Save it as UTF-8.") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UserError(f"not a table: {error}", where=path, fix="Put captions with commas into double quotes.") from error
    found = []
    for number, row in enumerate(rows, 2):
        if not row.get("image") or row.get("caption") is None:
            raise UserError(f"row {number} has no image or no caption", where=path, fix="Begin with the line image,caption.")
        found.append(ListedImage(image=row["image"], caption=row["caption"]))
    return found


def _objects(path: Path) -> list[ListedImage]:
    lines = enumerate(read_bytes(path).splitlines(), 1)
    return [read_json(ListedImage, path, line, f"line {number}: ") for number, line in lines if line.strip()]


def _add(listed: Listed, id: str, file: Path, caption: str | list[str]) -> None:
    """List one image's captions; the same file a second time adds to them."""
    if listed.files.get(id) != file:
        listed.image(id, file)
    for text in [caption] if isinstance(caption, str) else caption:
        listed.caption(id, text)


def first_there(root: Path, folders: Sequence[str], name: str) -> Path:
    """A file in the first folder that holds it; in the first folder where none does."""
    paths = [root / folder / name for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _coco_image(root: Path, name: str) -> Path:
    return first_there(root, ("", "images"), name)


def _in_split(path: Path, split: str) -> tuple[list[SplitImage], set[str]]:
    images = read_json(Splits, path).images
    return [image for image in images if image.split == split], {image.split for image in images}


def docci(root: Path, path: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    """DOCCI's descriptions."""
    listed, splits = Listed(), set()
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        found = read_json(Description, path, line, f"line {number}: ")
        splits.add(found.split)
        if found.split == split:
            listed.image(found.example_id, root / "images" / inside(found.image_file, path))
            listed.caption(found.example_id, found.description)
    return listed, splits


class _CocoFile:
    """A file of COCO's captions, as pycocotools reads it, and what is wrong with it."""

    def __init__(self, path: Path, how: str) -> None:
        from pycocotools.coco import COCO

        if not path.is_file():
            raise UserError("the file of COCO's captions is missing", where=path, fix=how)
        self.path = path
        data = path.read_bytes()
        checked = read_json(CocoCaptions, path, data)
        images = [image.id for image in checked.images]
        self.faults = [f"{path.name}: image {id} is there twice" for id in _repeated(images)]
        self.faults += [f"{path.name}: caption {id} is there twice" for id in _repeated(caption.id for caption in checked.annotations)]
        there = set(images)
        self.faults += [
            f"{path.name}: caption {caption.id} is of image {caption.image_id}, which is not there"
            for caption in checked.annotations
            if caption.image_id not in there
        ]
        self.names = {image.id: image.file_name for image in checked.images}
        self._images = there
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
            self._coco = COCO()
            self._coco.dataset = json.loads(data)
            self._coco.createIndex()

    def captions(self, image: int | None) -> list[str] | None:
        """The captions of an image by their ids, rising; None for an image that is not there."""
        if image not in self._images:
            return None
        return [note["caption"] for note in self._coco.loadAnns(sorted(self._coco.getAnnIds(imgIds=[image])))]


def _repeated(ids: Iterable[int]) -> list[int]:
    return [id for id, times in Counter(ids).items() if times > 1]
