"""Images with captions: COCO and Flickr30k in the splits of Karpathy, DOCCI, and any set with a plain list.

    coco      val2014/COCO_val2014_000000000042.jpg (or images/val2014/...)     beside a list of caption_files.py, in the set's folder or
    flickr    flickr30k-images/1000092795.jpg (or flickr30k_images/ or flat)    in annotations/ or annotation/
    docci     images/test_00000.jpg                                             docci_descriptions.jsonlines
    any       images/ANY/NAME.jpg (or .png)                                     SPLIT.csv or SPLIT.jsonl

Each reader is a function (root, split, **options) -> CaptionedImages. Images are read as Pillow gives them, never turned, as in
CLIP_benchmark and torchvision's CocoCaptions.

Axes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data import caption_files
from tips_bench.data.base import CaptionSample
from tips_bench.data.caption_files import Listed
from tips_bench.data.dataset_files import group_pattern, inside
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

FOLDERS = ("", "annotations", "annotation")  # where a list may lie


class CaptionOptions(Strict):
    """captions: how many the split has, where its publisher says so. group: a regular expression as in MaskReader."""

    captions: int | None = Field(None, gt=0)
    group: str | None = None


class CaptionedImages(ImageFiles):
    """One split of images with captions. faults: a sentence each; a set that has any must not be scored."""

    classes: tuple[str, ...] = ()
    turned = False

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


@dataclass(frozen=True)
class _List:
    """A form of list that a set is passed around with. name: of the file, with {split} where each split has one. title: whose it is."""

    name: str
    title: str
    read: Callable[[Path, Path, str, str], tuple[Listed, set[str]]]


COCO = (
    _List("dataset_coco.json", "Karpathy's split with COCO's captions", caption_files.karpathy_coco),
    _List("coco_{split}_karpathy.json", "CLIP_benchmark's list", caption_files.benchmark_coco),
    _List("coco_karpathy_{split}.json", "BLIP's list", caption_files.salesforce),
    _List("coco_{split}.json", "ALBEF's list", caption_files.salesforce),
)
FLICKR30K = (
    _List("dataset_flickr30k.json", "Karpathy's split", caption_files.karpathy_flickr30k),
    _List("flickr30k_{split}_karpathy.txt", "CLIP_benchmark's list", caption_files.benchmark_flickr30k),
    _List("flickr30k_{split}.json", "BLIP's and ALBEF's list", caption_files.salesforce),
)
DOCCI = (_List("docci_descriptions.jsonlines", "the release", caption_files.docci),)
PLAIN = (
    _List("{split}.csv", "a table", caption_files.plain_list),
    _List("{split}.jsonl", "JSON lines", caption_files.plain_list),
)
PLAIN_HOW = "Write SPLIT.csv with the columns image and caption, or SPLIT.jsonl with those keys, beside the folder images."


def coco_karpathy(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """COCO 2014 in the splits of Karpathy: train, restval, val and test (5,000 images, 25,010 captions)."""
    return _open("coco-karpathy", Path(root), split, options, COCO, load_card("task", "coco-retrieval").how_to_get)


def flickr30k(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """Flickr30k in the splits of Karpathy: train, val and test (1,000 images, 5,000 captions)."""
    return _open("flickr30k", Path(root), split, options, FLICKR30K, load_card("task", "flickr30k-retrieval").how_to_get)


def docci(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """DOCCI with its long descriptions. Splits: train, test, qual_dev, qual_test."""
    return _open("docci", Path(root), split, options, DOCCI, load_card("task", "docci-retrieval").how_to_get)


def captions_folder(root: str | Path, split: str, **options: Any) -> CaptionedImages:
    """Any set: ROOT/SPLIT.csv (columns image, caption) or ROOT/SPLIT.jsonl, its images below ROOT/images or ROOT."""
    return _open("captions-folder", Path(root), split, options, PLAIN, PLAIN_HOW)


def _open(name: str, root: Path, split: str, options: dict[str, Any], lists: tuple[_List, ...], how: str) -> CaptionedImages:
    chosen = parse(CaptionOptions, options, where="data.options")
    for one in lists:
        file = one.name.format(split=inside(split, root))
        path = caption_files.first_there(root, FOLDERS, file)
        if not path.is_file():
            continue
        listed, splits = one.read(root, path, split, how)
        if not listed.files and split in splits:
            raise UserError("the list is empty", where=path, fix=how)
        if not listed.files:
            raise unknown_name("split", split, splits, where=path)
        reader = CaptionedImages(name, split, root, listed, chosen, how=how)
        reader.layout = f"{one.title}, {path.relative_to(root)}"
        return reader
    wanted = [one.name.format(split=split) for one in lists]
    raise UserError(f"there is no {', nor '.join(wanted)}", where=root, fix=how)
