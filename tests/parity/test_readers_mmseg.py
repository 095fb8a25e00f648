"""Our readers give what mmsegmentation's own data set classes and pipelines give for the same files, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.helpers.segmentation_sets import KEPT, picture, save_gray, save_palette, write_set
from tips_bench.data.images import read_image, resize, resize_shape
from tips_bench.openmmlab import import_mmseg
from tips_bench.registry import READERS

mmseg = import_mmseg()
from mmseg.datasets import BaseSegDataset, PascalVOCDataset  # noqa: E402
from mmseg.registry import DATASETS, TRANSFORMS  # noqa: E402

TYPES = {
    "ade20k": "ADE20KDataset",
    "voc2012": "PascalVOCDataset",
    "pascal-context59": "PascalContextDataset59",
    "pascal-context60": "PascalContextDataset",
    "cityscapes": "CityscapesDataset",
    "coco-stuff164k": "COCOStuffDataset",
}


class Voc20(BaseSegDataset):
    """VOC20 as the open-vocabulary papers declare it for mmseg: the 20 object classes, the zero label reduced."""

    METAINFO: ClassVar = {key: values[1:] for key, values in PascalVOCDataset.METAINFO.items()}


def theirs(layout: str, root: Path, pipeline: list[dict[str, Any]]) -> Any:
    kept = KEPT[layout]
    options = {
        "data_root": str(root),
        "data_prefix": {"img_path": kept.images, "seg_map_path": kept.masks},
        "pipeline": [TRANSFORMS.build(step) for step in pipeline],
    }
    if kept.listing:
        options["ann_file"] = kept.listing
    if layout == "voc20":
        return Voc20(reduce_zero_label=True, **options)
    return DATASETS.build({"type": TYPES[layout], **options})


def ids_of(layout: str, number: int) -> list[str]:
    return [f"town{n % 2}/town{n % 2}_{n:06d}" if layout == "cityscapes" else f"2008_{n:06d}" for n in range(number)]


@pytest.mark.parametrize("save_mask", [save_gray, save_palette])
@pytest.mark.parametrize("layout", KEPT)
def test_images_and_labels_are_those_of_mmseg(layout: str, save_mask: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(len(layout))
    classes = len(READERS_CLASSES[layout])
    masks = {sample: rng.integers(0, classes, (20 + n, 31 - n), dtype=np.uint8) for n, sample in enumerate(ids_of(layout, 5))}
    for mask_HW in masks.values():
        mask_HW[:3] = 255
    write_set(tmp_path, layout, masks, save_mask)
    their = theirs(layout, tmp_path, [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}])
    ours = READERS.get(layout)(tmp_path, KEPT[layout].split)
    assert ours.classes == list(their.metainfo["classes"])
    assert [list(color) for color in ours.palette] == [list(color) for color in their.metainfo["palette"]]
    by_path = {result["img_path"]: result for result in (their[index] for index in range(len(their)))}
    assert len(by_path) == len(ours) == 5
    for index in range(len(ours)):
        result, sample = by_path[str(ours.files(index)[0])], ours.load(index)
        np.testing.assert_array_equal(sample.image_HW3, result["img"][:, :, ::-1])
        np.testing.assert_array_equal(sample.labels_HW, result["gt_seg_map"])
        assert ours.size(index) == result["ori_shape"]
        assert ours.files(index)[1] == Path(result["seg_map_path"])


READERS_CLASSES = {layout: (Voc20 if layout == "voc20" else getattr(mmseg.datasets, TYPES[layout])).METAINFO["classes"] for layout in KEPT}


@pytest.mark.parametrize("layout", KEPT)
def test_the_label_rule_maps_all_256_ids_as_mmseg_does(layout: str, tmp_path: Path) -> None:
    every_id = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_set(tmp_path, layout, {ids_of(layout, 1)[0]: every_id})
    their = theirs(layout, tmp_path, [{"type": "LoadAnnotations"}])[0]["gt_seg_map"]
    rule = READERS.get(layout)(tmp_path, KEPT[layout].split).rule
    np.testing.assert_array_equal(rule.table[every_id], their)
    classes = len(READERS_CLASSES[layout])
    np.testing.assert_array_equal(rule.stray[every_id], (their >= classes) & (their != 255))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_is_turned_by_its_exif_data_as_mmseg_turns_it(orientation: int, suffix: str, tmp_path: Path) -> None:
    path, exif = tmp_path / f"turned{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(1)).save(path, exif=exif)
    their = TRANSFORMS.build({"type": "LoadImageFromFile"})({"img_path": str(path)})["img"]
    np.testing.assert_array_equal(read_image(path), their[:, :, ::-1])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "CMYK", "I;16"])
def test_other_colour_modes_become_rgb_as_in_mmseg(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    if mode == "I;16":
        Image.fromarray(picture(2)[:, :, 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(picture(2)).convert(mode).save(path)
    their = TRANSFORMS.build({"type": "LoadImageFromFile"})({"img_path": str(path)})["img"]
    np.testing.assert_array_equal(read_image(path), their[:, :, ::-1])


@pytest.mark.parametrize("size", [(24, 36), (375, 500), (512, 683), (100, 67), (1, 1), (33, 33)])
@pytest.mark.parametrize("short_side", [17, 448, 512])
def test_resizing_keeps_the_aspect_to_the_pixel_as_mmseg_does(size: tuple[int, int], short_side: int) -> None:
    image_HW3 = picture(3, *size)
    for interpolation in ("bilinear", "bicubic"):
        step = TRANSFORMS.build({"type": "Resize", "scale": (1 << 30, short_side), "keep_ratio": True, "interpolation": interpolation})
        their = step({"img": image_HW3.copy()})["img"]
        ours = resize(image_HW3, resize_shape(*size, short_side), interpolation)
        np.testing.assert_array_equal(ours, their)
