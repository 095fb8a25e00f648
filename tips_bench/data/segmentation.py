"""Readers of semantic segmentation sets, in the layouts that mmsegmentation reads, and of a plain folder.

Classes, palettes, file suffixes and the zero-label rule are taken from mmsegmentation's data set classes, not typed again.
Each reader is a function (root, split, **options) -> MaskReader.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tips_bench.cards import Strict, load_card, parse
from tips_bench.data.dataset_files import IMAGE_SUFFIXES, files_below, group_pattern, inside, lacking, read_lines
from tips_bench.data.label_maps import LabelRule, MaskReader
from tips_bench.errors import UserError, unknown_name
from tips_bench.openmmlab import import_mmseg

FOLDER_HOW = "Lay it out as images/SPLIT/ID.jpg (or .png), labels/SPLIT/ID.png and classes.json (classes, palette)."


@dataclass(frozen=True)
class Layout:
    """Where a set's files lie. dataset: mmseg's class. splits: name -> (image folder, label folder, list of ids or "").

    drop_background: class 0 is ignored although mmseg's class counts it. things: how many of the classes count; all others, and what has
    none, are the background, class 0.
    """

    dataset: str
    splits: dict[str, tuple[str, str, str]]
    drop_background: bool = False
    things: int | None = None


def _voc(images: str, masks: str, lists: str, splits: tuple[str, ...]) -> dict[str, tuple[str, str, str]]:
    return {split: (images, masks, f"ImageSets/{lists}/{split}.txt") for split in splits}


VOC = _voc("JPEGImages", "SegmentationClass", "Segmentation", ("train", "val", "trainval"))
# the training images with the labels of SBD (Hariharan et al., 2011), as DeepLab's authors passed them on
AUGMENTED = {"trainaug": ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation/trainaug.txt")}
COCO = {split: (f"images/{split}", f"annotations/{split}", "") for split in ("train2017", "val2017")}
CONTEXT = _voc("JPEGImages", "SegmentationClassContext", "SegmentationContext", ("train", "val"))
LAYOUTS = {
    "ade20k": Layout("ADE20KDataset", {split: (f"images/{split}", f"annotations/{split}", "") for split in ("training", "validation")}),
    "voc2012": Layout("PascalVOCDataset", VOC | AUGMENTED),
    "voc20": Layout("PascalVOCDataset", VOC, drop_background=True),
    "pascal-context59": Layout("PascalContextDataset59", CONTEXT),
    "pascal-context60": Layout("PascalContextDataset", CONTEXT),
    "cityscapes": Layout("CityscapesDataset", {split: (f"leftImg8bit/{split}", f"gtFine/{split}", "") for split in ("train", "val")}),
    "coco-stuff164k": Layout("COCOStuffDataset", COCO),
    "coco-object": Layout("COCOStuffDataset", COCO, things=80),
}


def ade20k(root: str | Path, split: str, **options: Any) -> MaskReader:
    """ADE20K scene parsing (ADEChallengeData2016), 150 classes, "other" ignored. Splits: training, validation."""
    return _open("ade20k", root, split, options)


def voc2012(root: str | Path, split: str, **options: Any) -> MaskReader:
    """Pascal VOC 2012 (VOCdevkit/VOC2012), 21 classes with the background. Splits: train, val, trainval, trainaug."""
    return _open("voc2012", root, split, options)


def voc20(root: str | Path, split: str, **options: Any) -> MaskReader:
    """Pascal VOC 2012 without the background, which is ignored: 20 classes. Splits: train, val, trainval."""
    return _open("voc20", root, split, options)


def pascal_context59(root: str | Path, split: str, **options: Any) -> MaskReader:
    """Pascal Context (VOCdevkit/VOC2010), 59 classes, the background ignored. Splits: train, val."""
    return _open("pascal-context59", root, split, options)


def pascal_context60(root: str | Path, split: str, **options: Any) -> MaskReader:
    """Pascal Context (VOCdevkit/VOC2010), 60 classes with the background. Splits: train, val."""
    return _open("pascal-context60", root, split, options)


def cityscapes(root: str | Path, split: str, **options: Any) -> MaskReader:
    """Cityscapes fine annotations as train ids, 19 classes. Splits: train, val."""
    return _open("cityscapes", root, split, options)


def coco_stuff164k(root: str | Path, split: str, **options: Any) -> MaskReader:
    """COCO-Stuff 164k as train ids, 171 classes. Splits: train2017, val2017."""
    return _open("coco-stuff164k", root, split, options)


def coco_object(root: str | Path, split: str, **options: Any) -> MaskReader:
    """COCO-Object: the 80 things of COCO-Stuff 164k and a background of all else, 81 classes. Splits: train2017, val2017.

    Read from COCO-Stuff's train ids: things, 0 to 79, go up by one; stuff and unlabeled pixels are 0. That is the rule of
    wangf3014/SCLIP b56bd30, datasets/cvt_coco_object.py:18-204, which starts from the published ids.
    """
    return _open("coco-object", root, split, options)


class FolderOptions(Strict):
    """group: as in MaskReader. reduce_zero_label: stored id 0 is ignored and the others go down by one, as mmsegmentation calls it."""

    group: str | None = None
    reduce_zero_label: bool = False


Byte = Annotated[int, Field(ge=0, le=255)]


class FolderClasses(Strict):
    """classes.json. classes: names in the order of the ids. palette: an RGB colour for each. ignore: the id of unlabelled pixels."""

    classes: list[str] = Field(min_length=1, max_length=255)
    palette: list[tuple[Byte, Byte, Byte]]
    ignore: Literal[255] = 255


def folder(root: str | Path, split: str, **options: Any) -> MaskReader:
    """A plain set: images/SPLIT/ID.jpg (or .png), labels/SPLIT/ID.png with ids 0..C-1 or 255, and classes.json.

    Option reduce_zero_label: ids are 1..C, and 0 or 255 is ignored; classes.json names the C classes, not what is ignored.
    """
    root = Path(root)
    chosen = parse(FolderOptions, options, where="data.options")
    images, masks = f"images/{split}", f"labels/{split}"
    wanted = [f"{images}/*.jpg (or .png)", f"{masks}/*.png", "classes.json"]
    missing = lacking(root, [images, masks, "classes.json"])
    found = {} if missing else files_below(root / images, IMAGE_SUFFIXES)
    if not found:
        raise _absent("folder", root, wanted, FOLDER_HOW)
    pairs = {sample: (path, f"{root}/{masks}/{sample}.png") for sample, path in found.items()}
    rule = _folder_rule(root / "classes.json", chosen.reduce_zero_label)
    return MaskReader("folder", split, root, pairs, rule, how=FOLDER_HOW, group=group_pattern(chosen.group))


def _folder_rule(path: Path, reduce_zero_label: bool) -> LabelRule:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {error}", where=path, fix='Write {"classes": [...], "palette": [[r, g, b], ...]}.') from error
    stated = parse(FolderClasses, data, where=path)
    if len(stated.palette) != len(stated.classes) or len(set(stated.classes)) != len(stated.classes):
        raise UserError(
            f"{len(stated.classes)} classes and {len(stated.palette)} colours",
            where=path,
            fix="Give each class a name of its own and a colour.",
        )
    return LabelRule.of(stated.classes, stated.palette, reduce_zero_label)


def _open(name: str, root: str | Path, split: str, options: dict[str, Any]) -> MaskReader:
    layout, root = LAYOUTS[name], Path(root)
    if options:
        raise unknown_name("option", next(iter(options)), [], where=f"data.options of {name}")
    if split not in layout.splits:
        raise unknown_name("split", split, layout.splits, where=name)
    dataset = getattr(import_mmseg().datasets, layout.dataset)
    image_suffix, mask_suffix = _default(dataset, "img_suffix"), _default(dataset, "seg_map_suffix")
    images, masks, listing = layout.splits[split]
    missing = lacking(root, [part for part in (images, masks, listing) if part])
    found = {} if missing else _images(root, images, listing, image_suffix)
    if not found:
        wanted = [f"{images}/*{image_suffix}", f"{masks}/*{mask_suffix}", *([listing] if listing else [])]
        raise _absent(name, root, wanted, load_card("task", name).how_to_get)
    pairs = {sample: (image, f"{root}/{masks}/{sample}{mask_suffix}") for sample, image in found.items()}
    how = f"`tips-bench show {name}` says how to get all of its files."
    reader = MaskReader(name, split, root, pairs, _rule(dataset, layout), how=how)
    reader.layout = f"mmsegmentation's folders, {images}/ and {masks}/{f' with {listing}' if listing else ''}"
    return reader


def _rule(dataset: Any, layout: Layout) -> LabelRule:
    classes, palette = dataset.METAINFO["classes"], dataset.METAINFO["palette"]
    if layout.things is not None:
        rule = LabelRule.of(["background", *classes[: layout.things]], [(0, 0, 0), *palette[: layout.things]])
        return replace(rule, background=range(layout.things, len(classes)))
    if layout.drop_background:
        return LabelRule.of(classes[1:], palette[1:], reduce_zero_label=True)
    return LabelRule.of(classes, palette, _default(dataset, "reduce_zero_label"))


def _default(dataset: type, option: str) -> Any:
    """The default of a constructor's option, from the first class in the inheritance that states one."""
    for base in dataset.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get(option)  # type: ignore[misc]
        if parameter is not None:
            return parameter.default
    raise KeyError(option)


def _images(root: Path, images: str, listing: str, suffix: str) -> dict[str, str]:
    """id -> image file: those that the list names, or all that lie in the folder."""
    if not listing:
        return files_below(root / images, (suffix,))
    ids = [inside(line, root / listing) for line in read_lines(root / listing)]
    if len(set(ids)) != len(ids):
        raise UserError("the list contains an id twice", where=root / listing, fix="Get the list again.")
    return {sample: f"{root}/{images}/{sample}{suffix}" for sample in ids}


def _absent(name: str, root: Path, wanted: list[str], how: str) -> UserError:
    """The error for a root that does not hold the set, saying what it holds where that is known."""
    if not root.is_dir():
        problem = "there is no such folder"
    elif not any(root.iterdir()):
        problem = "the folder is empty"
    else:
        others = [
            other for other, layout in LAYOUTS.items() if any(not lacking(root, [*filter(None, parts)]) for parts in layout.splits.values())
        ]
        problem = (
            f"the files are in the layout of {' or '.join(others)}, not of {name}"
            if others and name not in others
            else f"the files are not in the layout of {name}"
        )
    return UserError(f"{problem}; looked for {', '.join(wanted)}", where=root, fix=how)
