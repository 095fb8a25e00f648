"""Image files and label files as arrays, decoded and resized as mmsegmentation's pipelines do it.

Images: OpenCV, turned as their EXIF orientation says (mmcv's `imread`), or not, where a set's published loaders pass over it
(torchvision and others open with Pillow and convert to RGB). Label files: Pillow, never turned, a palette PNG read as ids. Resizing:
OpenCV without antialiasing (mmcv's `cv2` backend), or Pillow with it (torchvision's transforms), so that the published protocols hold.
A broken file is an error, never a grey or half-filled picture.

Axes: H W pixels.
"""

from __future__ import annotations

import io
import math
import re
import struct
from pathlib import Path
from typing import IO, Literal

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tips_bench.data.integrity import check_regular, jpeg_is_cut, png_is_short, read_bytes, whole_jpeg
from tips_bench.errors import UserError

FORMATS = ("JPEG", "PNG")  # the only decoders that untrusted files reach
MAX_PIXELS = 80_000_000
MAX_SIDE = 1 << 14  # pixels after resizing: matrices of a side's square are made
MAX_ASPECT = 128  # the longer side over the shorter
ORIENTATION = 0x0112  # EXIF tag; from 5 on the sides are swapped
INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
ANTIALIASED = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
Library = Literal["mmcv", "torchvision", "transformers", "pillow"]
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
MASK_FIX = "Save ids as 8-bit greyscale or palette PNG."
GRAY, PALETTE = 0, 3  # PNG colour types
PGM16 = re.compile(rb"P5\s+(?:#[^\n]*\n\s*)*(\d{1,6})\s+(\d{1,6})\s+65535\s")


def resize_shape(
    height: int,
    width: int,
    short_side: int,
    multiple: int | None = None,
    library: Library = "mmcv",
    long_side: int | None = None,
    *,
    up: bool = False,
    long_multiple: int | None = None,
) -> tuple[int, int]:
    """(height, width) in pixels after the shorter side is brought to `short_side` with the aspect kept.

    multiple: round both sides to the nearest multiple of it, at least one. Without it sides are rounded as mmcv's
    `rescale_size` does, for "torchvision" and "transformers" down, and for "pillow" to the nearest. long_side: of mmcv's, the longer side
    becomes no longer than this. up: sides are rounded up to the multiple, the shorter one first (facebookresearch/dinov3 6876159,
    notebooks/segmentation_tracking.ipynb, cell 15). long_multiple: the longer side, of equal ones the width, is rounded down to a multiple
    of this first (facebookresearch/dino 7c446df, eval_video_segmentation.py:197-211).
    Errors: a result of more than MAX_PIXELS, or a side of more than MAX_SIDE (a thin strip blown up).
    """
    short, unit = min(height, width), multiple or 1
    if long_multiple is not None:
        long = max(1, max(height, width) * short_side // short // long_multiple) * long_multiple
        height, width, short = (long, short_side, short_side) if height > width else (short_side, long, short_side)
    if up:
        side = -(-short_side // unit) * unit
        resized = -(-height * side // (short * unit)) * unit, -(-width * side // (short * unit)) * unit
    elif library in ("torchvision", "transformers"):
        resized = height * short_side // short, width * short_side // short
    elif library == "pillow":
        scale = short_side / short / unit
        resized = max(1, int(height * scale + 0.5)) * unit, max(1, int(width * scale + 0.5)) * unit
    else:
        scale = short_side / short if long_side is None else min(short_side / short, long_side / max(height, width))
        resized = max(1, int(height * scale / unit + 0.5)) * unit, max(1, int(width * scale / unit + 0.5)) * unit
    if resized[0] * resized[1] > MAX_PIXELS or max(resized) > MAX_SIDE:
        raise UserError(
            f"an image of {height}x{width} pixels would become {resized[0]}x{resized[1]} at a short side of {short_side}",
            fix=f"Images of at most {MAX_PIXELS} pixels, and of at most {MAX_SIDE} a side, are scored: crop it or leave it out.",
        )
    return resized


def resize(
    image_HW3: np.ndarray,
    shape: tuple[int, int],
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    library: Library = "mmcv",
) -> np.ndarray:
    """The uint8 image at shape (height, width), as OpenCV (mmcv) or Pillow (all others), which is antialiased, makes it."""
    if image_HW3.shape[:2] == shape:
        return image_HW3
    if library != "mmcv":
        return np.asarray(Image.fromarray(image_HW3).resize(shape[::-1], ANTIALIASED[interpolation]))
    return cv2.resize(image_HW3, shape[::-1], interpolation=INTERPOLATIONS[interpolation])


def thumbnail_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) in pixels that Pillow's `thumbnail` brings an image to: the longer side to `side`; a smaller image stays.

    The shorter side is rounded up or down, whichever is nearer to the aspect, and is at least 1.
    """
    if max(height, width) <= side:
        return height, width
    aspect, shorter = width / height, min(height, width) * side / max(height, width)
    near = {max(1, math.floor(shorter)), max(1, math.ceil(shorter))}
    if width >= height:
        return min(sorted(near), key=lambda pixels: abs(aspect - side / pixels)), side
    return side, min(sorted(near), key=lambda pixels: abs(aspect - pixels / side))


def thumbnail(image_HW3: np.ndarray, side: int) -> np.ndarray:
    """The uint8 image no longer than `side` pixels, as Pillow's `thumbnail` makes it: Lanczos, antialiased, blocks averaged first."""
    image = Image.fromarray(image_HW3)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def framed(image_HW3: np.ndarray, side: int, interpolation: Literal["bilinear", "bicubic"]) -> np.ndarray:
    """The image with a longer side of `side` pixels in the middle of a black square; an odd pixel goes to the right or the bottom.

    As torchvision's Resize(None, max_size=side) and CenterCrop(side) make it.
    """
    height, width = (max(1, int(side * pixels / max(image_HW3.shape[:2]))) for pixels in image_HW3.shape[:2])
    top, left = (side - height) // 2, (side - width) // 2
    image_SS3 = np.zeros((side, side, 3), image_HW3.dtype)
    image_SS3[top : top + height, left : left + width] = resize(image_HW3, (height, width), interpolation, "torchvision")
    return image_SS3


def center_crop(image_HW3: np.ndarray, shape: tuple[int, int], library: Library = "mmcv") -> np.ndarray:
    """The middle (height, width) of an image at least that large. Half a pixel goes up, or, for "torchvision", to the even number."""
    spare = image_HW3.shape[0] - shape[0], image_HW3.shape[1] - shape[1]
    top, left = (round(pixels / 2) if library == "torchvision" else pixels // 2 for pixels in spare)
    return image_HW3[top : top + shape[0], left : left + shape[1]]


def to_pixels(image_HW3: np.ndarray) -> Tensor:
    """pixels_3HW, float32 in [0, 1], contiguous, of a uint8 RGB image."""
    planes_3HW = np.ascontiguousarray(image_HW3.transpose(2, 0, 1))
    return torch.from_numpy(planes_3HW).to(torch.float32).div_(255)


def image_size(path: Path, turned: bool = True) -> tuple[int, int]:
    """(height, width) in pixels that `read_image` gives, from the header alone: sides are swapped where EXIF says so and `turned`.

    Errors: no such file, not a JPEG or PNG image, more than MAX_PIXELS, a strip.
    """
    check_regular(path)
    try:
        with path.open("rb") as file, _opened(file, path) as image:
            return _turned_size(image) if turned else (image.height, image.width)
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror or error}", where=path) from error


def read_image(path: Path, turned: bool = True) -> np.ndarray:
    """image_HW3, uint8 RGB, greyscale, CMYK and 16-bit files converted as OpenCV does. turned: as the EXIF orientation says.

    Errors: those of `image_size`, and a file that is truncated or corrupt.
    """
    return decode_image(read_bytes(path), path, turned)


def decode_image(data: bytes, where: object, turned: bool = True) -> np.ndarray:
    """As `read_image`, of the bytes of a JPEG or PNG file. where: named in errors."""
    with _opened(io.BytesIO(data), where) as image:
        expected = _turned_size(image) if turned else (image.height, image.width)
        kind = "PNG" if image.format == "PNG" else "JPEG"
        progressive = "progressive" in image.info
        if not data.endswith(ENDINGS[kind]):
            _decode(image, where)  # OpenCV may pad what a truncated file lacks; Pillow refuses it
        elif kind == "JPEG" and image.mode in ("L", "RGB") and (b"Exif" not in data or not turned):
            whole_HW3 = whole_jpeg(data)
            if whole_HW3 is not None:
                return whole_HW3
    flags = cv2.IMREAD_COLOR if turned else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image_HW3 = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image_HW3 is None:
        raise UserError("the image is truncated or corrupt", where=where, fix="Fetch it again.")
    if image_HW3.shape[:2] != expected:
        raise UserError("the EXIF data contain two different orientations", where=where, fix="Save it again without EXIF data.")
    if png_is_short(data) if kind == "PNG" else jpeg_is_cut(data, image_HW3, progressive):
        raise UserError("a part of the picture is missing: the file was cut and closed again", where=where, fix="Fetch it again.")
    return cv2.cvtColor(image_HW3, cv2.COLOR_BGR2RGB, dst=image_HW3)


def read_mask(path: Path) -> np.ndarray:
    """mask_HW, uint8: the ids stored in a label file; in a palette PNG the indices are the ids.

    Errors: those of `read_image`; colours where ids are meant; ids of 16 bits, or of 2 or 4 bits without a palette, which
    decoders scale.
    """
    data = read_bytes(path)
    with _opened(io.BytesIO(data), path) as image:
        if image.format != "PNG":
            raise UserError(f"a {image.format} where class ids are expected: its compression changes the ids", where=path, fix=MASK_FIX)
        bits, color = data[24], data[25]  # of the IHDR chunk, which is always first
        if color not in (GRAY, PALETTE):
            raise UserError("a color image where class ids are expected", where=path, fix=MASK_FIX)
        if bits == 16 or (color == GRAY and bits in (2, 4)):
            raise UserError(f"a {bits}-bit PNG where 8-bit class ids are expected", where=path, fix=MASK_FIX)
        if not data.endswith(ENDINGS["PNG"]) or png_is_short(data):
            raise UserError("the label file is truncated", where=path, fix="Fetch it again.")
        return _decode(image, path).astype(np.uint8, copy=False)


def read_uint16(path: Path) -> np.ndarray:
    """values_HW, uint16, of a 16-bit greyscale PNG, as depth maps are kept. Errors: those of `read_image`; another kind of file."""
    data = read_bytes(path)
    with _opened(io.BytesIO(data), path) as image:
        if image.format != "PNG" or (data[24], data[25]) != (16, GRAY):
            raise UserError("a depth map must be a 16-bit grayscale PNG", where=path, fix="Export it again.")
        if not data.endswith(ENDINGS["PNG"]) or png_is_short(data):
            raise UserError("the depth map is truncated", where=path, fix="Fetch it again.")
        return _decode(image, path).astype(np.uint16, copy=False)


def read_pgm16(path: Path) -> np.ndarray:
    """values_HW, uint16, of a binary PGM file of 16 bits, as ScanNet's SensReader in C++ writes depth. Errors: another kind of file."""
    data = read_bytes(path)
    header = PGM16.match(data)
    if header is None:
        raise UserError("not a PGM file of 16 bits, as depth maps are kept", where=path, fix="Export it again.")
    width, height = int(header[1]), int(header[2])
    if width * height > MAX_PIXELS or len(data) - header.end() != 2 * width * height:
        problem = f"{len(data) - header.end()} bytes of depth for {height}x{width} pixels of two bytes"
        raise UserError(problem, where=path, fix="Export it again.")
    return np.frombuffer(data, ">u2", offset=header.end()).astype(np.uint16).reshape(height, width)


def _opened(file: IO[bytes], path: object) -> Image.Image:
    """The image's header. Pixels are not decoded yet."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UserError("not a JPEG or PNG image", where=path, fix="Fetch it again.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"an image of more than {MAX_PIXELS} pixels", where=path, fix="Crop it or leave it out.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"a broken image header: {error}", where=path, fix="Fetch it again.") from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.height}x{image.width}"
        raise UserError(f"an image of {size} pixels, more than {MAX_PIXELS}", where=path, fix="Crop it or leave it out.")
    if max(image.size) > MAX_ASPECT * min(image.size):
        size = f"{image.height}x{image.width}"
        raise UserError(f"a strip of {size} pixels, more than {MAX_ASPECT} times as long as wide", where=path, fix="Leave it out.")
    return image


def _turned_size(image: Image.Image) -> tuple[int, int]:
    swapped = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if swapped else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """As EXIF says it, 1 where it says nothing that can be read. XMP is passed over, as OpenCV does."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to look
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, EOFError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1


def _decode(image: Image.Image, path: object) -> np.ndarray:
    try:
        return np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"the image is truncated or corrupt: {error}", where=path, fix="Fetch it again.") from error
