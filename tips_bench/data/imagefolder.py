"""Readers of labelled images: a folder for each class, and ImageNet-1k as its publisher packs it.

    ROOT/SPLIT/CLASS/any/NAME.jpg                                     torchvision's ImageFolder
    ROOT/train/n01440764/n01440764_10026.JPEG                         ImageNet
    ROOT/val/n01440764/ILSVRC2012_val_00000293.JPEG                   sorted into folders, as torchvision and timm read it, or
    ROOT/val/ILSVRC2012_val_00000293.JPEG                             flat, as in the archive, with the labels of
    ROOT/ILSVRC2012_devkit_t12/data/{meta.mat, ILSVRC2012_validation_ground_truth.txt}

Classes are numbered in the order of their folders' names, as torchvision does; the devkit's own ids are in another order.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tips_bench.cards import Strict, parse
from tips_bench.data.base import LabeledImage
from tips_bench.data.dataset_files import IMAGE_SUFFIXES, files_below, group_pattern, read_lines
from tips_bench.data.image_files import ImageFiles
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

SUFFIXES = (*IMAGE_SUFFIXES, ".JPEG", ".JPG", ".PNG")
HOW = "Lay it out as SPLIT/CLASS/NAME.jpg (or .png)."
IMAGENET_SPLITS = ("train", "val")
IMAGENET_HOW = "Unpack the archives of ILSVRC2012 into train/WNID/ and val/ (sorted into WNID/ folders, or flat beside the devkit)."
WNID = re.compile(r"n\d{8}")
DEVKIT = "ILSVRC2012_devkit_t12/data"
NAMES = ("LOC_synset_mapping.txt", "labels.txt")  # "WNID name, other name", of Kaggle; "WNID,name", which DINOv2's reader asks for


class ImageFolderReader(ImageFiles):
    """One split. names: of the classes, for people. labels_N: the class of each sample. images: id -> (file, class index).

    Images are not turned: torchvision and DINOv2 open them with Pillow and convert to RGB.
    """

    turned = False

    def __init__(
        self,
        name: str,
        split: str,
        root: Path,
        images: dict[str, tuple[str, int]],
        classes: list[str],
        *,
        names: list[str] | None = None,
        group: re.Pattern[str] | None = None,
        how: str = HOW,
    ) -> None:
        files = {id: file for id, (file, _) in images.items()}
        super().__init__(name, split, root, files, how=how, group=group, missing="an image is missing")
        self.classes, self.names = classes, names or classes
        self.labels_N = np.array([images[id][1] for id in self.ids], dtype=np.int64)
        self.fingerprint = digest(*self.ids, *self.image_bytes, *self.labels_N, *classes)

    def load(self, index: int) -> LabeledImage:
        """Decode one sample. Errors: a broken or missing file."""
        return LabeledImage(self.ids[index], self.groups[index], self.image(index), int(self.labels_N[index]))


class FolderOptions(Strict):
    """classes_of: the splits whose folders together give the classes, where one may lack a class. group: as in MaskReader."""

    classes_of: list[str] = Field([], max_length=8)
    group: str | None = None


def imagefolder(root: str | Path, split: str, **options: Any) -> ImageFolderReader:
    """Any set with a folder for each class. Splits: the folders of the root."""
    root = Path(root)
    chosen = parse(FolderOptions, options, where="data.options")
    classes = sorted({name for part in {split, *chosen.classes_of} for name in _class_folders(root / part, HOW)})
    images = _sorted_images(root / split, classes)
    names = [name.replace("_", " ") for name in classes]
    return ImageFolderReader("imagefolder", split, root, images, classes, names=names, group=group_pattern(chosen.group))


def imagenet(root: str | Path, split: str, **options: Any) -> ImageFolderReader:
    """ImageNet-1k (ILSVRC2012). Splits: train, val. Ids are the files' own names, in either layout of val."""
    root = Path(root)
    if options:
        raise unknown_name("option", next(iter(options)), [], where="data.options of imagenet")
    if split not in IMAGENET_SPLITS:
        raise unknown_name("split", split, IMAGENET_SPLITS, where="imagenet")
    flat = split == "val" and not any((root / split).glob("n????????"))
    if flat:
        images, classes = _flat_val(root)
    else:
        classes = _class_folders(root / split, IMAGENET_HOW)
        if stray := [name for name in classes if not WNID.fullmatch(name)]:
            raise UserError(f"the folder {stray[0]!r} is not named after a WordNet id", where=root / split, fix=IMAGENET_HOW)
        images = {Path(id).name: found for id, found in _sorted_images(root / split, classes).items()}
    names = _names(root)
    shown = [names.get(wnid, wnid) for wnid in classes]
    reader = ImageFolderReader("imagenet", split, root, images, classes, names=shown, how=IMAGENET_HOW)
    reader.layout = f"{split}/, flat, with the devkit's labels" if flat else f"{split}/, sorted into folders of classes"
    return reader


def _class_folders(folder: Path, how: str) -> list[str]:
    """Names of the visible folders in a split's folder, sorted. Errors: there is none."""
    if not folder.is_dir():
        raise UserError("there is no such folder", where=folder, fix=how)
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise UserError("it contains no class folders", where=folder, fix=how)
    return found


def _sorted_images(folder: Path, classes: list[str]) -> dict[str, tuple[str, int]]:
    """id -> (file, class index) of the images in the class folders. Errors: a class folder of this split without an image."""
    number = {name: index for index, name in enumerate(classes)}
    found = {
        id: (path, number[id.partition("/")[0]]) for id, path in files_below(folder, SUFFIXES).items() if id.partition("/")[0] in number
    }
    shown = {label for _, label in found.values()}
    empty = [name for name in classes if number[name] not in shown and (folder / name).is_dir()]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise UserError(
            f"the class folder {empty[0]!r}{more} holds no image", where=folder, fix="Add images, or remove the folder from every split."
        )
    return found


def _flat_val(root: Path) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """The images of a flat val folder with the devkit's labels, and all classes. The n-th label is that of the n-th file name."""
    from scipy.io.matlab import MatReadError, loadmat

    found = files_below(root / "val", SUFFIXES) if (root / "val").is_dir() else {}
    truth, meta = root / DEVKIT / "ILSVRC2012_validation_ground_truth.txt", root / DEVKIT / "meta.mat"
    if not found or not truth.is_file() or not meta.is_file():
        lacks = root / "val" if not found else truth if not truth.is_file() else meta
        raise UserError("neither folders of classes nor a flat val folder with its devkit", where=lacks, fix=IMAGENET_HOW)
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnid_of = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets if int(synset["num_children"]) == 0}
        wnids = [wnid_of[int(line)] for line in read_lines(truth)]
    except (MatReadError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise UserError(f"not the devkit of ILSVRC2012: {error}", where=meta.parent, fix=IMAGENET_HOW) from error
    if len(wnids) != len(found):
        raise UserError(f"{len(wnids)} labels for {len(found)} images", where=truth, fix=IMAGENET_HOW)
    classes = sorted(wnid_of.values())
    number = {wnid: index for index, wnid in enumerate(classes)}
    return {id: (found[id], number[wnid]) for id, wnid in zip(sorted(found), wnids, strict=True)}, classes


def _names(root: Path) -> dict[str, str]:
    """wnid -> the first of its names, from a list that lies in the root; empty without one."""
    for name in NAMES:
        if (root / name).is_file():
            rows = csv.reader(read_lines(root / name)) if name == "labels.txt" else (line.split(" ", 1) for line in read_lines(root / name))
            return {row[0]: row[1].split(",")[0].strip() for row in rows if len(row) > 1}
    return {}
