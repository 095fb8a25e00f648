"""Small segmentation sets on disk, in every layout that has a reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Kept:
    """Where a layout keeps a split. listing: the file that names the split's ids, or ""."""

    split: str
    images: str
    masks: str
    image_suffix: str = ".jpg"
    mask_suffix: str = ".png"
    listing: str = ""


VOC = Kept("val", "JPEGImages", "SegmentationClass", listing="ImageSets/Segmentation/val.txt")
CONTEXT = Kept("val", "JPEGImages", "SegmentationClassContext", listing="ImageSets/SegmentationContext/val.txt")
KEPT = {
    "ade20k": Kept("validation", "images/validation", "annotations/validation"),
    "voc2012": VOC,
    "voc20": VOC,
    "pascal-context59": CONTEXT,
    "pascal-context60": CONTEXT,
    "cityscapes": Kept("val", "leftImg8bit/val", "gtFine/val", "_leftImg8bit.png", "_gtFine_labelTrainIds.png"),
    "coco-stuff164k": Kept("val2017", "images/val2017", "annotations/val2017", ".jpg", "_labelTrainIds.png"),
}


def picture(seed: int, height: int = 24, width: int = 36) -> np.ndarray:
    """A uint8 RGB image of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def write_set(root: Path, layout: str, masks: dict[str, np.ndarray], save_mask: Callable[[np.ndarray, Path], None] | None = None) -> Kept:
    """Write an image for each mask (id -> uint8 [H, W]) and the list of the split."""
    kept = KEPT[layout]
    for seed, (sample, mask_HW) in enumerate(masks.items()):
        image = root / kept.images / f"{sample}{kept.image_suffix}"
        mask = root / kept.masks / f"{sample}{kept.mask_suffix}"
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed, *mask_HW.shape)).save(image)
        (save_mask or save_gray)(mask_HW, mask)
    if kept.listing:
        (root / kept.listing).parent.mkdir(parents=True, exist_ok=True)
        (root / kept.listing).write_text("".join(f"{sample}\n" for sample in masks))
    return kept


def save_gray(mask_HW: np.ndarray, path: Path) -> None:
    """An 8-bit greyscale PNG of ids."""
    Image.fromarray(mask_HW).save(path)


def save_palette(mask_HW: np.ndarray, path: Path) -> None:
    """A palette PNG whose indices are the ids, in colours that are no ids."""
    image = Image.fromarray(mask_HW)
    image.putpalette([(7 * entry + 13) % 256 for entry in range(768)])
    image.save(path)
