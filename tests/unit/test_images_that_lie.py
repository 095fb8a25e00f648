"""Files that are whole to a decoder and are not: cut and closed, short of rows, strips, pipes, devices, links in a circle."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.segmentation_sets import picture
from tips_bench.data.dataset_files import file_sizes, files_below
from tips_bench.data.images import MAX_ASPECT, image_size, read_image, read_mask, read_uint16, resize_shape
from tips_bench.data.integrity import MAX_BYTES, jpeg_is_cut, png_is_short
from tips_bench.errors import UserError


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(3, 96, 120)).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png(values: np.ndarray, rows: int) -> bytes:
    """A PNG whose header promises all rows and whose data hold the first `rows` only, all check sums right."""
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    body = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values[:rows])
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("kept", [0.9, 0.6, 0.3])
def test_a_jpeg_that_was_cut_and_closed_with_an_end_marker_is_refused(options: dict[str, object], kept: float, tmp_path: Path) -> None:
    data, path = jpeg(**options), tmp_path / "cut.jpg"
    path.write_bytes(data)
    assert read_image(path).shape == (96, 120, 3)
    path.write_bytes(data[: int(kept * len(data))] + b"\xff\xd9")
    with pytest.raises(UserError, match=r"cut\.jpg: a part of the picture is missing"):
        read_image(path)


def test_superfluous_bytes_before_the_end_marker_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "extra.jpg"
    flat = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 9, 9)).save(flat, "JPEG")  # a flat corner, so that libjpeg's warnings are asked for
    path.write_bytes(flat.getvalue()[:-2] + bytes(20) + b"\xff\xd9")
    assert (read_image(path) == read_image(path)[0, 0]).all()


def test_libjpeg_is_asked_again_only_where_a_corner_is_flat() -> None:
    data = jpeg()
    cut = data[: len(data) // 2] + b"\xff\xd9"
    assert jpeg_is_cut(cut, np.zeros((9, 9, 3), np.uint8), progressive=False)
    assert not jpeg_is_cut(cut, picture(0, 64, 64), progressive=False) and jpeg_is_cut(cut, picture(0, 64, 64), progressive=True)


@pytest.mark.parametrize("rows", [0, 1, 23])
def test_a_label_file_with_too_few_rows_is_refused(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "short.png"
    values_HW = np.arange(24 * 31, dtype=np.uint8).reshape(24, 31)
    path.write_bytes(png(values_HW, 24))
    np.testing.assert_array_equal(read_mask(path), values_HW)
    path.write_bytes(png(values_HW, rows))
    with pytest.raises(UserError, match=r"short\.png: the label file is truncated"):
        read_mask(path)
    with pytest.raises(UserError, match=r"short\.png: "):
        read_image(path)
    path.write_bytes(png(values_HW.astype(np.uint16), rows))
    with pytest.raises(UserError, match=r"short\.png: the depth map is truncated"):
        read_uint16(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]))
def test_png_files_of_every_kind_are_whole_to_the_row(height: int, width: int, mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    assert not png_is_short(file.getvalue())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (9, 17), (1, 33)])
def test_the_rows_of_an_interlaced_png_are_counted(shape: tuple[int, int]) -> None:
    """Adam7, written by hand as the PNG specification numbers its passes: Pillow reads such files and writes none."""
    height, width = shape
    values_HW = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    body = b""
    for top, left, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part_hw = values_HW[top::down, left::right]
        if part_hw.size:
            body += b"".join(b"\0" + row.tobytes() for row in part_hw)
    for data, short in ((body, False), (body[:-1], True)):
        chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)), (b"IDAT", zlib.compress(data)), (b"IEND", b"")
        parts = [struct.pack(">I", len(inner)) + kind + inner + struct.pack(">I", zlib.crc32(kind + inner)) for kind, inner in chunks]
        assert png_is_short(b"\x89PNG\r\n\x1a\n" + b"".join(parts)) is short
        if not short:
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts)))), values_HW)


def test_a_strip_is_refused_before_it_is_blown_up(tmp_path: Path) -> None:
    path = tmp_path / "strip.png"
    Image.new("RGB", (300, 1)).save(path)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=rf"strip\.png: a strip of 1x300 pixels, more than {MAX_ASPECT} times"):
            read(path)
    with pytest.raises(UserError, match="would become 512x51200"):
        resize_shape(1, 100, 512)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_is_refused_and_never_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    for read in (read_image, read_mask, image_size, lambda file: file_sizes([str(file)], "an image is missing", "Get it.")):
        with pytest.raises(UserError, match=r"a\.jpg: "):
            read(path)


def test_a_file_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # a sparse file
    with pytest.raises(UserError, match=f"an image has at most {MAX_BYTES}"):
        read_image(path)


def test_links_that_lead_in_a_circle_or_to_a_folder_twice_are_named(tmp_path: Path) -> None:
    (tmp_path / "set/a").mkdir(parents=True)
    Image.fromarray(picture(0)).save(tmp_path / "set/a/0.jpg")
    assert list(files_below(tmp_path / "set", (".jpg",))) == ["a/0"]
    (tmp_path / "set/b").symlink_to(tmp_path / "set/a")
    with pytest.raises(UserError, match="its files would count twice"):
        files_below(tmp_path / "set", (".jpg",))
    (tmp_path / "set/b").unlink()
    (tmp_path / "set/a/up").symlink_to(tmp_path / "set")
    with pytest.raises(UserError, match="its files would count twice"):
        files_below(tmp_path / "set", (".jpg",))


def test_a_file_too_large_for_an_image_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "endless.png"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"endless\.png: a file of 536870913 bytes"):
        file_sizes([str(path)], "missing", "get it", MAX_BYTES)
