"""How each source of a set reads its pictures: turned by EXIF or not, grey, CMYK, upper-case endings, names with spaces.

* mmsegmentation's sets: mmcv reads in color with OpenCV and turns as EXIF says (open-mmlab/mmcv a8073c7, mmcv/transforms/loading.py:55-56,
  mmcv/image/io.py:157-163). A few pictures of ADE20K are grey (issue 88 of meetps/pytorch-semseg).
* ImageNet: Image.open(...).convert("RGB"), which does not turn (facebookresearch/dinov2 05c66df, dinov2/data/datasets/decoders.py:29-31).
  Some training pictures are CMYK, one is a PNG named .JPEG (n02105855_2933).
* Captions: Image.open(...).convert("RGB") (LAION-AI/CLIP_benchmark 48de38c, clip_benchmark/datasets/flickr.py:49; salesforce/BLIP 056a169,
  data/coco_karpathy_dataset.py:122-123).
* NAVI: turned, for the depth is of the upright picture (mbanani/probe3d a1f1464, data_processing/resize_navi.py:45-47).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.caption_sets import flickr30k as flickr_set
from tests.helpers.segmentation_sets import picture, write_set
from tips_bench.data.captions import flickr30k
from tips_bench.data.imagefolder import imagefolder, imagenet
from tips_bench.data.images import image_size, read_image
from tips_bench.data.segmentation import ade20k, coco_stuff164k, pascal_context59
from tips_bench.errors import UserError

TURN = 6  # a quarter to the right
ORIENTATION = 0x0112


def save_turned(path: Path, pixels_HW3: np.ndarray) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = TURN
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_HW3).save(path, "JPEG", exif=exif, quality=95)


def plain(path: Path) -> np.ndarray:
    """As Pillow gives it, not turned."""
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_turned_picture_is_turned_as_mmcv_does_and_left_as_pillow_does(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    save_turned(path, picture(0, 24, 40))
    turned_HW3 = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_image(path), turned_HW3)
    np.testing.assert_array_equal(read_image(path, turned=False), plain(path))
    assert image_size(path) == (40, 24) and image_size(path, turned=False) == (24, 40)


def test_imagenet_and_captions_are_not_turned(tmp_path: Path) -> None:
    save_turned(tmp_path / "imagenet/val/n01440764/ILSVRC2012_val_00000293.JPEG", picture(0, 24, 40))
    save_turned(tmp_path / "plain/val/fish/a.jpg", picture(0, 24, 40))
    flickr_set(tmp_path / "flickr")
    save_turned(tmp_path / "flickr/flickr30k-images/7.jpg", picture(0, 24, 40))
    captions = flickr30k(tmp_path / "flickr", "test")
    for reader, index in ((imagenet(tmp_path / "imagenet", "val"), 0), (imagefolder(tmp_path / "plain", "val"), 0), (captions, 2)):
        assert reader.size(index) == (24, 40)
        np.testing.assert_array_equal(reader.load(index).image_HW3, plain(reader.file(index)))


def test_a_segmentation_picture_is_turned_so_an_unturned_label_file_does_not_fit(tmp_path: Path) -> None:
    kept = write_set(tmp_path, "ade20k", {"ADE_val_00000001": np.ones((24, 40), np.uint8)})
    save_turned(tmp_path / kept.images / "ADE_val_00000001.jpg", picture(0, 40, 24))
    assert ade20k(tmp_path, "validation").load(0).image_HW3.shape == (24, 40, 3)
    save_turned(tmp_path / kept.images / "ADE_val_00000001.jpg", picture(0, 24, 40))
    with pytest.raises(UserError, match=r"24x40 labels, but the image ADE_val_00000001\.jpg is 40x24"):
        ade20k(tmp_path, "validation").load(0)


@pytest.mark.parametrize(("mode", "apart"), [("L", 0), ("CMYK", 1)])
def test_grey_and_cmyk_pictures_become_rgb(mode: str, apart: int, tmp_path: Path) -> None:
    kept = write_set(tmp_path, "coco-stuff164k", {"000000000139": np.ones((24, 40), np.uint8)})
    path = tmp_path / kept.images / "000000000139.jpg"
    Image.fromarray(picture(0, 24, 40)).convert(mode).save(path, quality=95)
    image_HW3 = coco_stuff164k(tmp_path, "val2017").load(0).image_HW3
    assert image_HW3.shape == (24, 40, 3)
    np.testing.assert_array_equal(image_HW3, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    assert np.abs(image_HW3.astype(int) - plain(path)).max() <= apart


def test_a_png_with_the_name_of_a_jpeg_is_read_by_its_contents(tmp_path: Path) -> None:
    path = tmp_path / "train/n02105855/n02105855_2933.JPEG"
    path.parent.mkdir(parents=True)
    Image.fromarray(picture(0)).save(path, "PNG")
    np.testing.assert_array_equal(imagenet(tmp_path, "train").load(0).image_HW3, picture(0))


def test_endings_in_upper_case_and_names_with_spaces_are_read(tmp_path: Path) -> None:
    kept = write_set(tmp_path, "ade20k", {"my room 1": np.ones((24, 40), np.uint8), "b": np.ones((24, 40), np.uint8)})
    (tmp_path / kept.images / "b.jpg").rename(tmp_path / kept.images / "b.JPG")
    reader = ade20k(tmp_path, "validation")
    assert reader.ids == ["b", "my room 1"]
    assert [reader.load(index).labels_HW[0, 0] for index in range(2)] == [0, 0]
    write_set(tmp_path / "context", "pascal-context59", {"2008 000002": np.ones((24, 40), np.uint8)})
    assert pascal_context59(tmp_path / "context", "val").ids == ["2008 000002"]
