"""What is known of an image and its text without a model: sizes, hashes, EXIF, language."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from contextlib import suppress
from typing import Any

from PIL import ExifTags, Image

from tips_bench.corpus.store import Sample, in_utf8
from tips_bench.training.crops import read_image

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
EXIF = ("Make", "Model", "Software", "DateTime", "Artist", "Copyright", "Orientation")  # no place, no serial number
LONGEST = 200  # characters of an EXIF text
# How files of other formats begin.
_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "HEIC")


def decoded(image: bytes) -> tuple[str, int, int]:
    """(extension, width, height) of an image that was decoded as training does it, turned as EXIF says.

    Errors: SampleFault, why training would skip it.
    """
    _, height, width = read_image({"jpg": image}).shape
    with Image.open(io.BytesIO(image), formats=tuple(EXTENSIONS)) as opened:
        return EXTENSIONS[str(opened.format)], width, height


def other_format(image: bytes) -> str | None:
    """The name of a format that training does not read, by the first bytes of a file; None of any other file."""
    if image[4:8] == b"ftyp":
        return _BRANDS.get(image[8:12])
    return next((name for start, name in _OTHERS.items() if image.startswith(start)), None)


def facts(image: bytes, width: int, height: int) -> dict[str, Any]:
    """What the .json says of an image, beside its captions."""
    known = {"width": width, "height": height, "sha256": hashlib.sha256(image).hexdigest()}
    exif = _exif(image)
    return known | ({"exif": exif} if exif else {})


def _exif(image: bytes) -> dict[str, str | int]:
    try:
        with Image.open(io.BytesIO(image), formats=tuple(EXTENSIONS)) as opened:
            stated = {} if opened.format == "PNG" and "exif" not in opened.info else dict(opened.getexif())
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return {}  # a broken block of EXIF in an image that can be decoded
    return _kept({ExifTags.TAGS.get(tag, ""): value for tag, value in stated.items()})


def _kept(named: dict[str, Any]) -> dict[str, str | int]:
    plain = {name: named[name] for name in EXIF if isinstance(named.get(name), str | int)}
    return {name: value.strip("\0 ")[:LONGEST] if isinstance(value, str) else value for name, value in plain.items()}


def without_places(said: dict[str, Any]) -> dict[str, Any]:
    """What is said of a sample, and of "exif" only what is kept of the EXIF data of images. "Orientation" goes: it is of the file.

    img2dataset writes it as a JSON text with names like "Image Make" and "GPS GPSLatitude".
    """
    others = {name: value for name, value in said.items() if name.lower() != "exif"}
    exif = said.get("exif")
    with suppress(ValueError, RecursionError):
        exif = in_utf8(json.loads(exif)) if isinstance(exif, str) else exif
    kept = _kept({name.removeprefix("Image "): value for name, value in exif.items()}) if isinstance(exif, dict) else {}
    kept.pop("Orientation", None)
    return others | ({"exif": kept} if kept else {})


def captions(said: dict[str, Any], kind: str) -> list[str]:
    """The captions of a kind, "web" or "synthetic", that are no blanks."""
    stated = said.get(kind)
    return [text for text in (stated if isinstance(stated, list) else [stated]) if isinstance(text, str) and text.strip()]


def text_of(sample: Sample) -> str:
    """The caption that came with the image, "" where none did."""
    return next(iter(captions(sample.said, "web")), "")


def knows_languages() -> bool:
    """Whether the package is installed that tells languages."""
    return importlib.util.find_spec("py3langid") is not None


def language_of(text: str) -> str:
    """The most likely language, by ISO 639-1. A guess for texts of a few words."""
    import py3langid

    return str(py3langid.classify(text)[0])
