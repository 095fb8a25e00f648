"""What images and label files become, and what broken ones get."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from tests.helpers.segmentation_sets import picture, save_palette
from tips_bench.data.images import (
    MAX_PIXELS,
    framed,
    image_size,
    read_image,
    read_mask,
    resize,
    resize_shape,
    thumbnail,
    thumbnail_shape,
    to_pixels,
)
from tips_bench.errors import UserError


def encoded(kind: str, seed: int = 0, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, 40, 56)).save(buffer, kind, **options)
    return buffer.getvalue()


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 700), st.sampled_from([None, 14, 16]))
def test_the_short_side_is_met_and_the_aspect_kept_to_a_rounding(height: int, width: int, short_side: int, multiple: int | None) -> None:
    if max(height, width) > 20 * min(height, width):
        return
    resized = resize_shape(height, width, short_side, multiple)
    unit = multiple or 1
    scale = short_side / min(height, width)
    for before, after in zip((height, width), resized, strict=True):
        assert after % unit == 0 and after >= unit
        assert after == unit or abs(after - before * scale) <= unit / 2 + 1e-6
    if multiple is None:
        assert min(resized) == short_side


def test_a_strip_that_would_be_blown_up_is_refused() -> None:
    with pytest.raises(UserError, match="would become 448x4480000"):
        resize_shape(1, 10000, 448)


def test_an_image_of_one_pixel_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.fromarray(np.full((1, 1, 3), (10, 20, 30), np.uint8)).save(path)
    image_HW3 = read_image(path)
    assert image_size(path) == (1, 1)
    np.testing.assert_array_equal(resize(image_HW3, resize_shape(1, 1, 28)), np.full((28, 28, 3), (10, 20, 30)))


def test_pixels_are_those_of_torchvision_divided_by_255() -> None:
    image_HW3 = picture(1)
    pixels_3HW = to_pixels(image_HW3)
    assert pixels_3HW.dtype == torch.float32 and pixels_3HW.is_contiguous()
    assert torch.equal(pixels_3HW, pil_to_tensor(Image.fromarray(image_HW3)).float() / 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [0.98, 0.6, 0.3])
def test_a_truncated_image_is_an_error_and_no_grey_picture(kind: str, kept: float, tmp_path: Path) -> None:
    data = encoded(kind)
    path = tmp_path / "cut.img"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(UserError, match=r"cut\.img: .*(truncated|broken)"):
        read_image(path)


def test_a_progressive_jpeg_without_its_last_scan_is_truncated(tmp_path: Path) -> None:
    data = encoded("JPEG", progressive=True)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[: data.rindex(b"\xff\xda")])
    with pytest.raises(UserError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("data", [b"", b"not an image", b"GIF89a" + bytes(50), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_a_file_that_is_no_jpeg_or_png_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.jpg"
    path.write_bytes(data)
    for read in (image_size, read_image, read_mask):
        with pytest.raises(UserError, match=r"other\.jpg: not a JPEG or PNG image"):
            read(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "Is a directory")):
        for read in (image_size, read_image, read_mask):
            with pytest.raises(UserError, match=reason):
                read(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_an_image_that_would_fill_the_memory_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10000))) + chunk(b"IEND", b""))
    for read in (image_size, read_image, read_mask):
        with pytest.raises(UserError, match=f"more than {MAX_PIXELS}"):
            read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_size_from_the_header_is_that_of_the_decoded_image(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    path.write_bytes(encoded(kind, exif=exif))
    assert image_size(path) == read_image(path).shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("damaged", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*"])
def test_an_exif_block_that_cannot_be_read_says_nothing(kind: str, damaged: bytes, tmp_path: Path) -> None:
    """With a density in the header Pillow first meets the block when it is asked for."""
    path = tmp_path / "photo"
    path.write_bytes(encoded(kind, exif=damaged, dpi=(72, 72)))
    assert image_size(path) == read_image(path).shape[:2] == (40, 56)


def test_an_orientation_in_xmp_alone_is_passed_over(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded("JPEG", xmp=xmp))
    assert image_size(path) == read_image(path).shape[:2] == (40, 56)


def test_a_palette_png_is_read_as_ids_not_colours(tmp_path: Path) -> None:
    mask_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save_palette(mask_HW, tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask_HW)


def test_palettes_of_few_bits_and_one_bit_masks_hold_ids_too(tmp_path: Path) -> None:
    for bits in (1, 2, 4):
        mask_HW = (np.arange(63).reshape(7, 9) % 2**bits).astype(np.uint8)
        image = Image.fromarray(mask_HW)
        image.putpalette([200, 10, 5, 90] * 12)
        image.save(tmp_path / "mask.png", bits=bits)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), mask_HW)
    mask_HW = np.eye(5, dtype=bool)
    Image.fromarray(mask_HW).save(tmp_path / "binary.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "binary.png"), mask_HW.astype(np.uint8))


def test_a_16_bit_png_is_refused_where_ids_are_meant(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: a 16-bit PNG where 8-bit class ids are expected"):
        read_mask(tmp_path / "deep.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_colour_image_is_refused_where_ids_are_meant(mode: str, tmp_path: Path) -> None:
    Image.fromarray(picture(0)).convert(mode).save(tmp_path / "colours.png")
    with pytest.raises(UserError, match="a color image where class ids are expected"):
        read_mask(tmp_path / "colours.png")


def test_a_jpeg_is_refused_where_ids_are_meant(tmp_path: Path) -> None:
    Image.fromarray(picture(0)[:, :, 0]).save(tmp_path / "mask.jpg")
    with pytest.raises(UserError, match="a JPEG where class ids are expected"):
        read_mask(tmp_path / "mask.jpg")


CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG"]), changes=CHANGES, length=st.integers(0, 3000))
def test_damaged_bytes_give_an_image_of_the_stated_size_or_a_user_error(
    kind: str, changes: list[tuple[int, int]], length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(kind, exif=exif))
    for place, value in changes:
        data[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(data[:length]))
    for read in (read_image, read_mask):
        try:
            assert read(path).shape[:2] == image_size(path)
        except UserError as error:
            assert "damaged" in str(error)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_a_thumbnail_has_the_size_that_pillow_gives_it(height: int, width: int, side: int) -> None:
    image = Image.new("1", (width, height))
    image.thumbnail((side, side), Image.Resampling.NEAREST)
    assert thumbnail_shape(height, width, side) == (image.height, image.width)


@pytest.mark.parametrize("shape", [(300, 451), (90, 60), (20, 30)])
def test_a_thumbnail_is_the_one_that_pillow_makes(shape: tuple[int, int]) -> None:
    image_HW3 = picture(1, *shape)
    theirs = Image.fromarray(image_HW3)
    theirs.thumbnail((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(thumbnail(image_HW3, 64), np.asarray(theirs))
    assert thumbnail(image_HW3, 64).shape[:2] == thumbnail_shape(*shape, 64)


@pytest.mark.parametrize("shape", [(90, 64, 3), (101, 230, 3), (64, 64, 3), (20, 11, 3)])
def test_a_framed_image_is_what_torchvision_makes_of_a_longer_side_and_a_crop_of_more_than_there_is(shape: tuple[int, int, int]) -> None:
    image_HW3 = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    small = v2.Resize(size=None, max_size=64, interpolation=v2.InterpolationMode.BICUBIC)(Image.fromarray(image_HW3))
    np.testing.assert_array_equal(framed(image_HW3, 64, "bicubic"), np.asarray(v2.CenterCrop(64)(small)))
