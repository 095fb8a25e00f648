"""JPEG files without a fault are decoded by simplejpeg, to the bytes that OpenCV gives, and so mmcv."""

from __future__ import annotations

import io
import site
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tips_bench.data import images
from tips_bench.data.images import decode_image
from tips_bench.data.integrity import whole_jpeg

PHOTOS = sorted(
    path for folder in site.getsitepackages() for path in Path(folder).rglob("*.jpg") if path.read_bytes().startswith(b"\xff\xd8")
)
FORMS = {
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "optimized": {"optimize": True, "quality": 30},
    "restart markers": {"restart_marker_rows": 2},
    "stored as RGB": {"keep_rgb": True},
}


def by_opencv(data: bytes, turned: bool = True) -> np.ndarray:
    flags = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), flags), cv2.COLOR_BGR2RGB)


def saved(image: Image.Image, **options: object) -> bytes:
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


def photo() -> Image.Image:
    return Image.open(PHOTOS[0]).convert("RGB").resize((161, 119))  # odd sides: blocks are cut at both edges


def test_there_are_photos() -> None:
    assert len(PHOTOS) >= 3


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.name)
def test_photos_of_installed_packages_have_the_pixels_of_opencv(path: Path) -> None:
    data = path.read_bytes()
    whole = whole_jpeg(data)
    assert whole is not None and np.array_equal(whole, by_opencv(data, turned=False))
    assert np.array_equal(decode_image(data, path), by_opencv(data))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_photo_has_the_pixels_of_opencv(name: str) -> None:
    data = saved(photo(), **FORMS[name])
    assert np.array_equal(decode_image(data, name), by_opencv(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_have_the_pixels_of_opencv(mode: str) -> None:
    data = saved(photo().convert(mode))
    assert np.array_equal(decode_image(data, mode), by_opencv(data))


@pytest.mark.parametrize("side", [(1, 1), (7, 3), (16, 16), (17, 33)])
def test_pictures_smaller_than_a_block_have_the_pixels_of_opencv(side: tuple[int, int]) -> None:
    data = saved(photo().resize(side), quality=95)
    assert np.array_equal(decode_image(data, "small"), by_opencv(data))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("turned", [True, False])
def test_a_turned_photo_is_turned_or_not_as_with_opencv(orientation: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), exif=exif)
    assert np.array_equal(decode_image(data, "turned", turned), by_opencv(data, turned))


def test_a_file_that_libjpeg_warns_of_takes_the_way_with_all_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo())
    middle = len(data) // 2
    closed = data[:middle] + b"\xff\xd9"
    assert whole_jpeg(data) is not None and whole_jpeg(closed) is None
    monkeypatch.setattr(images, "whole_jpeg", lambda _: None)
    assert np.array_equal(decode_image(data, "whole"), by_opencv(data))
