"""Rooms in the layouts of real sets, as mmsegmentation's own data set classes read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tips_bench.openmmlab import import_mmseg
from tips_bench.rooms.drawing.classes import CLASSES, IGNORE, NAMES, lookup_table
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.writers import write_rooms

pytestmark = pytest.mark.slow

OPTIONS = {"seed": 2, "train": 3, "val": 2, "size": 64, "frames_per_scene": 2, "workers": 1}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    for layout in ("ade20k", "voc2012", "pascal-context"):
        write_rooms(layout, folder / layout, **OPTIONS)
    return {layout: folder / layout for layout in ("ade20k", "voc2012", "pascal-context")}


def dataset(name: str, **options: Any) -> Any:
    import_mmseg()
    from mmcv.transforms import LoadImageFromFile
    from mmseg import datasets
    from mmseg.datasets.transforms import LoadAnnotations

    pipeline = [LoadImageFromFile(), LoadAnnotations()]
    return getattr(datasets, name)(pipeline=pipeline, **options)


def labels(data: Any, index: int) -> np.ndarray:
    return data[index]["gt_seg_map"]


@pytest.mark.parametrize(
    ("attribute", "name", "first"),
    [("ade20k", "ADE20KDataset", 1), ("voc", "PascalVOCDataset", 0), ("context", "PascalContextDataset", 0)],
)
def test_class_ids_name_the_classes_of_mmsegmentation(attribute: str, name: str, first: int) -> None:
    import_mmseg()
    from mmseg import datasets

    theirs = getattr(datasets, name).METAINFO["classes"]
    for room_class in CLASSES:
        if (known := getattr(room_class, attribute)) is not None:
            number, word = known
            assert theirs[number - first].strip() == word


def test_palette_is_that_of_ade20k() -> None:
    import_mmseg()
    from mmseg.datasets import ADE20KDataset

    for room_class in CLASSES:
        assert list(room_class.rgb) == ADE20KDataset.METAINFO["palette"][room_class.ade20k[0] - 1]


def test_there_are_at_least_sixteen_classes_each_with_its_own_name_and_colour() -> None:
    assert len(set(NAMES)) == len({c.rgb for c in CLASSES}) == len(CLASSES) >= 16
    assert lookup_table("ade20k")[IGNORE] == IGNORE


@pytest.mark.parametrize(("split", "folder", "count"), [("train", "training", 3), ("val", "validation", 2)])
def test_mmseg_reads_ade20k_with_zero_based_labels(roots: dict[str, Path], split: str, folder: str, count: int) -> None:
    root = roots["ade20k"] / "ADEChallengeData2016"
    data = dataset(
        "ADE20KDataset", data_root=str(root), data_prefix={"img_path": f"images/{folder}", "seg_map_path": f"annotations/{folder}"}
    )
    assert len(data) == count
    drawn = room(2, split, 0, frames=2, size=64)
    assert [Path(data.get_data_info(i)["img_path"]).name for i in range(count)] == [f"ADE_{split}_{i + 1:08d}.jpg" for i in range(count)]
    for index, frame in enumerate(drawn.frames):
        expected = np.array([c.ade20k[0] - 1 for c in CLASSES])[frame.classes_HW]
        np.testing.assert_array_equal(labels(data, index), expected)
        assert np.abs(data[index]["img"][..., ::-1].astype(float) - frame.image_HW3).mean() < 4
    stems = [line.split()[0] for line in (root / "sceneCategories.txt").read_text().splitlines()]
    assert sorted(stems) == sorted(p.stem for p in (root / "images").rglob("*.jpg"))


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 2), ("trainval", 5)])
def test_mmseg_reads_voc2012(roots: dict[str, Path], split: str, count: int) -> None:
    root = roots["voc2012"] / "VOCdevkit/VOC2012"
    prefix = {"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"}
    data = dataset("PascalVOCDataset", data_root=str(root), ann_file=f"ImageSets/Segmentation/{split}.txt", data_prefix=prefix)
    assert len(data) == count
    if split == "train":
        frame = room(2, "train", 0, frames=2, size=64).frames[0]
        ids = np.array([c.voc[0] if c.voc else 0 for c in CLASSES])[frame.classes_HW]
        got = labels(data, 0)
        inner = got != 255
        np.testing.assert_array_equal(got[inner], ids[inner])
        assert inner.mean() > 0.6


def test_the_outlines_of_voc_objects_and_only_they_are_255(roots: dict[str, Path]) -> None:
    outlines = 0
    for split, number in (("train", 0), ("train", 1), ("val", 0)):
        frame = room(2, split, number, frames=1, size=64).frames[0]
        got = np.array(Image.open(roots["voc2012"] / f"VOCdevkit/VOC2012/SegmentationClass/{split}{number:05d}_00.png"))
        known = np.array([c.voc is not None for c in CLASSES])[frame.classes_HW]
        objects = np.where(known, frame.instances_HW, 0)
        padded = np.pad(objects, 1, mode="edge")
        near = [padded[dy : dy + 64, dx : dx + 64] for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2))]
        np.testing.assert_array_equal(got == 255, np.any([n != objects for n in near], 0))
        outlines += int((got == 255).sum())
    assert outlines > 50


def test_voc_masks_carry_the_palette_of_voc(roots: dict[str, Path]) -> None:
    import_mmseg()
    from mmseg.datasets import PascalVOCDataset

    with Image.open(next((roots["voc2012"] / "VOCdevkit/VOC2012/SegmentationClass").iterdir())) as mask:
        assert mask.mode == "P"
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(palette[:21], PascalVOCDataset.METAINFO["palette"])
    np.testing.assert_array_equal(palette[255], [224, 224, 192])


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 2)])
def test_mmseg_reads_pascal_context_with_59_and_with_60_classes(roots: dict[str, Path], split: str, count: int) -> None:
    options = {
        "data_root": str(roots["pascal-context"] / "VOCdevkit/VOC2010"), "ann_file": f"ImageSets/SegmentationContext/{split}.txt",
        "data_prefix": {"img_path": "JPEGImages", "seg_map_path": "SegmentationClassContext"},
    }  # fmt: skip
    all_60, all_59 = dataset("PascalContextDataset", **options), dataset("PascalContextDataset59", **options)
    assert len(all_60) == len(all_59) == count
    frame = room(2, split, 0, frames=2, size=64).frames[0]
    ids = np.array([c.context[0] if c.context else 0 for c in CLASSES])[frame.classes_HW]
    np.testing.assert_array_equal(labels(all_60, 0), ids)
    np.testing.assert_array_equal(labels(all_59, 0), np.where(ids == 0, 255, ids - 1))
