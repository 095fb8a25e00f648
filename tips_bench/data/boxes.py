"""Images with the boxes of their objects: Pascal VOC, and the part of COCO on which objects are discovered.

    voc       JPEGImages/ID.jpg, Annotations/ID.xml, ImageSets/Main/SPLIT.txt, in the set's folder or in VOCdevkit/VOC2007 of it
    coco20k   coco_20k_filenames.txt (train2014/COCO_train2014_000000560992.jpg on each line), train2014/ or images/train2014/,
              annotations/instances_train2014.json

What becomes of the stored boxes is LOST's (valeoai/LOST fcedbec, datasets.py:231-279): of VOC's, which count pixels from 1 with both ends
inside, 1 is taken from the lower ends; COCO's corners are rounded to whole pixels, halves to the even one, and crowds are left out. Some
files of VOC 2012 hold fractions, which are kept. An image without a box is not scored, for nothing can be found there.

Axes: H W pixels, N boxes; the axis of 4 is left, top, right, bottom in pixels from the upper left corner, right and bottom outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, ValidationError

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.base import BoxSample
from tips_bench.data.dataset_files import group_pattern, inside, lacking, read_lines
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest
from tips_bench.wording import counted

VOC_SPLITS = ("train", "val", "trainval", "test")
COCO_SPLIT = "train2014"
COCO_LIST, COCO_OBJECTS = "coco_20k_filenames.txt", "annotations/instances_train2014.json"
MAX_XML = 1 << 20  # bytes of an annotation


@dataclass(frozen=True)
class Boxes:
    """Of one image. kinds: the class of each box."""

    boxes_N4: np.ndarray
    kinds: tuple[str, ...]


class BoxReader(ImageFiles):
    """One split of images with boxes. classes: the kinds of objects. boxes: of each image."""

    turned = False  # torchvision's VOCDetection and CocoDetection, which the sources read with, pass over EXIF data

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        images: Mapping[str, str],
        boxes: Mapping[str, Boxes],
        *,
        how: str,
        group: re.Pattern[str] | None = None,
    ) -> None:
        seen = {id: file for id, file in images.items() if len(boxes[id].boxes_N4)}
        super().__init__(name, split, root, seen, how=how, group=group)
        self.boxes = [boxes[id] for id in self.ids]
        self.classes = sorted({kind for one in self.boxes for kind in one.kinds})
        empty = len(images) - len(seen)
        self.remarks = (f"left out: {counted(empty, 'image')} without a box",) if empty else ()
        said = [part for one in self.boxes for part in (one.boxes_N4.tobytes().hex(), *one.kinds)]
        self.fingerprint = digest(*self.ids, *self.image_bytes, *said)

    def load(self, index: int) -> BoxSample:
        """Decode one sample. Errors: a broken or missing file, named."""
        found = self.boxes[index]
        return BoxSample(self.ids[index], self.groups[index], self.image(index), found.boxes_N4, found.kinds)


class VocOptions(Strict):
    """year: of the set, for its name. hard: whether objects that are cut off or marked as difficult count. group: as in MaskReader."""

    year: Literal["2007", "2008", "2009", "2010", "2011", "2012"] = "2007"
    hard: bool = True
    group: str | None = None


def voc_boxes(root: str | Path, split: str, **options: Any) -> BoxReader:
    """Pascal VOC with boxes (VOCdevkit/VOC2007, VOC2012). Splits: train, val, trainval, test, as ImageSets/Main has them.

    Errors: a list, a picture or an annotation that is missing or broken.
    """
    root, chosen = Path(root), parse(VocOptions, options, where="data.options")
    how = f"Unpack VOCtrainval of VOC {chosen.year}, so that JPEGImages, Annotations and ImageSets/Main are here."
    if split not in VOC_SPLITS:
        raise unknown_name("split", split, VOC_SPLITS, where="voc-boxes")
    devkit = root / "VOCdevkit" / f"VOC{chosen.year}"
    root = devkit if devkit.is_dir() else root
    listing = f"ImageSets/Main/{split}.txt"
    if missing := lacking(root, [listing, "JPEGImages", "Annotations"]):
        raise UserError(f"there is no {missing[0]}", where=root, fix=how)
    ids = _listed(root / listing)
    images = {id: f"{root}/JPEGImages/{id}.jpg" for id in ids}
    boxes = {id: _voc(root / "Annotations" / f"{id}.xml", chosen.hard, how) for id in ids}
    return BoxReader("voc-boxes", split, root, images, boxes, how=how, group=group_pattern(chosen.group))


def _listed(path: Path) -> list[str]:
    ids = [inside(line, path) for line in read_lines(path)]
    if not ids:
        raise UserError("the list is empty", where=path, fix="Get the list again.")
    if len(set(ids)) != len(ids):
        raise UserError("the list contains an image twice", where=path, fix="Get the list again.")
    return ids


def _voc(path: Path, hard: bool, how: str) -> Boxes:
    """The boxes of an annotation. Errors: no such file, one that is no annotation."""
    try:
        if path.stat().st_size > MAX_XML:
            raise UserError("an annotation of more than a megabyte", where=path, fix=how)
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=how) from error
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it defines entities, and annotations have none")
        found = [_voc_object(one) for one in ElementTree.fromstring(text).iter("object") if hard or not _is_hard(one)]
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"not an annotation of VOC: {error}", where=path, fix=how) from error
    return Boxes(np.array([box for box, _ in found]).reshape(-1, 4), tuple(kind for _, kind in found))


def _voc_object(element: ElementTree.Element) -> tuple[list[float], str]:
    box = [float(_text(element, f"bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax")]
    box[0], box[1] = box[0] - 1, box[1] - 1
    if not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"the box {box} has no area")
    return box, _text(element, "name")


def _is_hard(element: ElementTree.Element) -> bool:
    return "1" in (element.findtext("truncated"), element.findtext("difficult"))


def _text(element: ElementTree.Element, name: str) -> str:
    found = element.findtext(name)
    if found is None:
        raise ValueError(f"an object without {name}")
    return found


class _Image(BaseModel):
    id: int
    file_name: str


class _Category(BaseModel):
    id: int
    name: str


class _Object(BaseModel):
    image_id: int
    category_id: int
    iscrowd: int
    bbox: tuple[float, float, float, float]


class _Objects(BaseModel):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[_Category]


def coco20k(root: str | Path, split: str, **options: Any) -> BoxReader:
    """COCO20k: the images of COCO's train2014 that LOST's list names, with their boxes. Split: train2014.

    Errors: a list, a picture or the annotations that are missing or broken.
    """
    root, how = Path(root), load_card("task", "coco20k-discovery").how_to_get
    if options:
        raise unknown_name("option", next(iter(options)), [], where="data.options of coco20k")
    if split != COCO_SPLIT:
        raise unknown_name("split", split, [COCO_SPLIT], where="coco20k")
    if missing := lacking(root, [COCO_LIST, COCO_OBJECTS]):
        raise UserError(f"there is no {missing[0]}", where=root, fix=how)
    folder = "images" if (root / "images" / COCO_SPLIT).is_dir() else "."
    names = {Path(line).stem: line for line in _listed(root / COCO_LIST)}
    boxes = _coco(root / COCO_OBJECTS, set(names), how)
    return BoxReader("coco20k", split, root, {id: f"{root}/{folder}/{line}" for id, line in names.items()}, boxes, how=how)


def _coco(path: Path, wanted: set[str], how: str) -> dict[str, Boxes]:
    """The boxes of the wanted images, by the stems of their files."""
    try:
        said = _Objects.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=how) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"not COCO's annotations of objects: {place or 'the file'}: {first['msg']}", where=path, fix=how) from error
    stems = {image.id: Path(image.file_name).stem for image in said.images}
    if unknown := sorted(wanted - set(stems.values())):
        raise UserError(f"{len(unknown)} images of the list are not in it, the first is {unknown[0]}", where=path, fix=how)
    names = {category.id: category.name for category in said.categories}
    found: dict[str, tuple[list[list[int]], list[str]]] = {stem: ([], []) for stem in wanted}
    for one in said.annotations:
        stem = stems.get(one.image_id)
        if stem in wanted and not one.iscrowd:
            left, top, width, height = one.bbox
            found[stem][0].append([round(end) for end in (left, top, left + width, top + height)])
            found[stem][1].append(names.get(one.category_id, str(one.category_id)))
    return {stem: Boxes(np.array(boxes, dtype=np.float64).reshape(-1, 4), tuple(kinds)) for stem, (boxes, kinds) in found.items()}
