"""Images with captions: COCO and Flickr30k in the splits of Karpathy, and DOCCI, in their publishers' layouts.

    coco      dataset_coco.json  annotations/captions_val2014.json  val2014/COCO_val2014_000000000042.jpg
    flickr    dataset_flickr30k.json  flickr30k-images/1000092795.jpg
    docci     docci_descriptions.jsonlines  images/test_00000.jpg

The two dataset_*.json are those of "Deep Visual-Semantic Alignments for Generating Image Descriptions" (Karpathy and Fei-Fei, CVPR 2015).
Of COCO it gives the split; the captions are read from the annotations of COCO with pycocotools. Each reader is a function
(root, split, **options) -> CaptionedImages.

Axes: H W pixels.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import CaptionSample
from tips_bench.data.image_files import ImageFiles
from tips_bench.data.listing import group_pattern, inside, lacking
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

KARPATHY = {"coco": "dataset_coco.json", "flickr30k": "dataset_flickr30k.json"}
COCO_CAPTIONS = "annotations/captions_{folder}.json"
FLICKR_IMAGES = "flickr30k-images"
DOCCI = "docci_descriptions.jsonlines"


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


class CaptionOptions(Strict):
    """captions: how many the split has, where its publisher says so. group: a regular expression as in MaskReader."""

    captions: int | None = Field(None, gt=0)
    group: str | None = None


class CaptionedImages(ImageFiles):
    """One split of images with captions. faults: a sentence each; a set that has any must not be scored."""

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, split: str, root: Path, listed: Listed, options: CaptionOptions, *, how: str) -> None:
        files = {id: str(file) for id, file in listed.files.items()}
        super().__init__(name, split, root, files, how=how, group=group_pattern(options.group))
        self.captions = [tuple(listed.captions[id]) for id in self.ids]
        self.faults = listed.faults + [f"{id} has no caption" for id, said in zip(self.ids, self.captions, strict=True) if not said]
        number = sum(map(len, self.captions))
        if options.captions not in (None, number):
            self.faults.append(f"{number} captions, expected {options.captions}")
        said = [text for captions in self.captions for text in (len(captions), *captions)]
        self.fingerprint = digest(*self.ids, *self.image_bytes, *said)

    def load(self, index: int) -> CaptionSample:
        """Decode one sample. Errors: a broken or missing file, named."""
        return CaptionSample(self.ids[index], self.groups[index], self.image(index), self.captions[index])


def coco_karpathy(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """COCO 2014 in the splits of Karpathy: train, restval, val and test (5,000 images, 25,010 captions)."""
    return _open("coco", Path(root), split, options, _coco)


def flickr30k(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """Flickr30k in the splits of Karpathy: train, val and test (1,000 images, 5,000 captions)."""
    return _open("flickr30k", Path(root), split, options, _flickr30k)


def docci(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """DOCCI with its long descriptions. Splits: train, test, qual_dev, qual_test."""
    return _open("docci", Path(root), split, options, _docci)


NAMES = {"coco": "coco-karpathy", "flickr30k": "flickr30k", "docci": "docci"}
FIRST_FILE = {"coco": KARPATHY["coco"], "flickr30k": KARPATHY["flickr30k"], "docci": DOCCI}


def _open(kind: str, root: Path, split: str, options: dict[str, Any], read: Any) -> CaptionedImages:
    chosen = parse(CaptionOptions, options, where="data.options")
    how = load_card("task", f"{kind}-retrieval").how_to_get
    if lacking(root, [FIRST_FILE[kind]]):
        raise UserError(f"there is no {FIRST_FILE[kind]}", where=root, fix=how)
    listed, splits = read(root, split, how)
    if not listed.files:
        raise unknown_name("split", split, splits, where=root / FIRST_FILE[kind])
    return CaptionedImages(NAMES[kind], split, root, listed, chosen, how=how)


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


class Splits(Known):
    """A Karpathy file."""

    images: list[SplitImage]


class CocoImage(Known):
    """An image in a file of COCO's captions."""

    id: int


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


def _read(kind: type[KnownT], path: Path, data: bytes | None = None, line: str = "") -> KnownT:
    """A publisher's file, or a line of one. Errors: a file that cannot be read, or does not hold what it should."""
    try:
        return kind.model_validate_json(path.read_bytes() if data is None else data)
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{line}{key and key + ': '}{first['msg']}", where=path, fix="Get the file again.") from error


def _in_split(kind: str, root: Path, split: str) -> tuple[list[SplitImage], set[str], Path]:
    path = root / KARPATHY[kind]
    images = _read(Splits, path).images
    return [image for image in images if image.split == split], {image.split for image in images}, path


def _flickr30k(root: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    chosen, splits, path = _in_split("flickr30k", root, split)
    listed = Listed()
    for image in chosen:
        id = Path(image.filename).stem
        listed.image(id, root / FLICKR_IMAGES / inside(image.filename, path))
        for sentence in image.sentences:
            listed.caption(id, sentence.raw)
    return listed, splits


def _coco(root: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    chosen, splits, path = _in_split("coco", root, split)
    listed = Listed()
    known = {folder: _CocoFile(root / COCO_CAPTIONS.format(folder=inside(folder, path)), how) for folder in {i.filepath for i in chosen}}
    for file in known.values():
        listed.faults += file.faults
    for image in chosen:
        id = Path(image.filename).stem
        listed.image(id, root / image.filepath / inside(image.filename, path))
        said = known[image.filepath].captions(image.cocoid)
        if said is None:
            listed.faults.append(f"{id}: image {image.cocoid} is not in {known[image.filepath].path.name}")
        for caption in said or ():
            listed.caption(id, caption)
    return listed, splits


class _CocoFile:
    """A file of COCO's captions, as pycocotools reads it, and what is wrong with it."""

    def __init__(self, path: Path, how: str) -> None:
        from pycocotools.coco import COCO

        if not path.is_file():
            raise UserError("the file of COCO's captions is missing", where=path, fix=how)
        self.path = path
        data = path.read_bytes()
        checked = _read(CocoCaptions, path, data)
        images = [image.id for image in checked.images]
        self.faults = [f"{path.name}: image {id} is there twice" for id in _repeated(images)]
        self.faults += [f"{path.name}: caption {id} is there twice" for id in _repeated(caption.id for caption in checked.annotations)]
        there = set(images)
        self.faults += [
            f"{path.name}: caption {caption.id} is of image {caption.image_id}, which is not there"
            for caption in checked.annotations
            if caption.image_id not in there
        ]
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


def _docci(root: Path, split: str, how: str) -> tuple[Listed, set[str]]:
    path, listed, splits = root / DOCCI, Listed(), set()
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _read(Description, path, line, f"line {number}: ")
        splits.add(found.split)
        if found.split == split:
            listed.image(found.example_id, root / "images" / inside(found.image_file, path))
            listed.caption(found.example_id, found.description)
    return listed, splits
