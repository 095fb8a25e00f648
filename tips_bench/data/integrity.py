"""Files that do not hold what their header promises: cut JPEG files that a decoder fills with grey, PNG files with missing rows.

Decoders pass over both without a word: libjpeg fills what is missing and only warns, Pillow leaves missing rows black. Also: pipes,
devices and very large files are refused before anything is read from them.
"""

from __future__ import annotations

import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg

from tips_bench.errors import UserError

MAX_BYTES = 1 << 29  # of one image file; 80 million pixels of 16-bit color take 480 MB
CORNER, FLAT = 4, 2  # pixels of a corner that is looked at, and how far values of a filled one differ
PREMATURE = "premature"  # in libjpeg's warnings of missing data; others, as of superfluous bytes, are harmless
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG color type
# First row, first column, row step and column step of the seven passes of an interlaced PNG (PNG specification, section 8.2).
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
HEADER = struct.Struct(">IIBBBBB")  # IHDR: width, height, bits, color type, compression, filter, interlacing
STEP = 1 << 20


def check_regular(path: Path) -> None:
    """Errors: no such file, a folder, a pipe or a device, a file of more than MAX_BYTES."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path) from error
    if stat.S_ISDIR(found.st_mode):
        raise UserError("cannot read: Is a directory", where=path)
    if not stat.S_ISREG(found.st_mode):
        raise UserError("a pipe or a device, not a file", where=path, fix="Leave it out.")
    if found.st_size > MAX_BYTES:
        raise UserError(f"a file of {found.st_size} bytes, and an image has at most {MAX_BYTES}", where=path, fix="Leave it out.")


def read_bytes(path: Path) -> bytes:
    """All bytes of an image file. Errors: those of `check_regular`."""
    check_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error


def jpeg_is_cut(data: bytes, image_HW3: np.ndarray, progressive: bool) -> bool:
    """Whether a JPEG file that decoded lacks a part of its picture, as one does that was cut and closed with an end marker.

    The file is decoded a second time, for libjpeg's warnings, only where a part may be missing: in a progressive file, and where one
    corner of the picture is flat, as the last block of a cut sequential file is (any corner, for the picture may be turned).
    """
    return (progressive or _flat_corner(image_HW3)) and _warns(data)


def whole_jpeg(data: bytes) -> np.ndarray | None:
    """image_HW3, uint8 RGB, not turned, of a JPEG file without any fault; None where libjpeg warns of one.

    The pixels are those of OpenCV, which uses the same library with the same settings (tests/parity/test_jpeg_decoders.py).
    """
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None


def _flat_corner(image_HW3: np.ndarray) -> bool:
    edges = (slice(None, CORNER), slice(-CORNER, None))
    corners = (image_HW3[rows, columns].reshape(-1, 3) for rows in edges for columns in edges)
    return any(np.ptp(corner, axis=0).max() <= FLAT for corner in corners)


def _warns(data: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        return PREMATURE in str(error).lower()
    return False


def png_is_short(data: bytes) -> bool:
    """Whether a PNG file holds fewer bytes of pixels than its header promises."""
    width, height, bits, color, _, _, interlaced = HEADER.unpack_from(data, 16)
    if color not in CHANNELS:
        return False  # no decoder takes it
    wanted = _pixel_bytes(width, height, bits * CHANNELS[color], bool(interlaced))
    stream, found = zlib.decompressobj(), 0
    try:
        for part in _image_data(data):
            while part and found < wanted:
                found += len(stream.decompress(part, STEP))
                part = stream.unconsumed_tail
    except zlib.error:
        return True
    return found < wanted


def _pixel_bytes(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each with one byte more for its filter. bits: of a pixel."""
    total = 0
    for top, left, down, right in PASSES if interlaced else ((0, 0, 1, 1),):
        rows, columns = -(-(height - top) // down), -(-(width - left) // right)
        if rows > 0 and columns > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _image_data(data: bytes) -> list[bytes]:
    """The contents of the IDAT chunks; a chunk that is cut is taken as far as it goes."""
    parts, place = [], 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if kind == b"IDAT":
            parts.append(data[place + 8 : place + 8 + length])
        place += 12 + length
    return parts
