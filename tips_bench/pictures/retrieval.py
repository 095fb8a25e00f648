"""What a model finds: the captions nearest to an image and the images nearest to a caption, the truth in green.

Axes: H W pixels; the axis of 3 is RGB.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tips_bench.pictures.panels import CAPTION, FAINT, GAP, INK, LINE, PAPER, TILE, font
from tips_bench.terminal import printable

SHOWN = 5
SMALL = 176  # side of the box of a found image
TRUE, FALSE = (0, 128, 60), FAINT
LETTERS = 118  # of a line of text beside the image
LINES = 2  # of a caption that was found
OWN_LINES = 4


@dataclass(frozen=True)
class Finding:
    """An image and one of its captions, and what was found for each, nearest first: (caption or image_HW3, whether it is the true one)."""

    image_HW3: np.ndarray
    caption: str
    captions: Sequence[tuple[str, bool]]
    images: Sequence[tuple[np.ndarray, bool]]


def panel(found: Finding) -> np.ndarray:
    """An image with its nearest captions, and below it a caption with its nearest images; uint8 RGB."""
    upper, lower = max(TILE, SHOWN * LINES * LINE), OWN_LINES * LINE
    width = max(TILE + 3 * GAP + 7 * LETTERS, SHOWN * (SMALL + GAP) + GAP)
    sheet = Image.new("RGB", (width, CAPTION + upper + GAP + CAPTION + lower + SMALL + 3 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, CAPTION // 2), f"image, and its nearest captions{_verdict(found.captions)}", INK, font(), anchor="lm")
    _paste(sheet, found.image_HW3, (GAP, CAPTION), TILE, FAINT)
    for place, (text, true) in enumerate(found.captions):
        top = CAPTION + place * LINES * LINE
        for line, words in enumerate(_lines(f"{place + 1}. {text}", LINES)):
            draw.text((TILE + 2 * GAP, top + line * LINE + LINE // 2), words, TRUE if true else INK, font(), anchor="lm")
    top = CAPTION + upper + GAP
    draw.text((GAP, top + CAPTION // 2), f"caption, and its nearest images{_verdict(found.images)}", INK, font(), anchor="lm")
    for line, words in enumerate(_lines(found.caption, OWN_LINES)):
        draw.text((GAP, top + CAPTION + line * LINE + LINE // 2), words, INK, font(), anchor="lm")
    for place, (image_HW3, true) in enumerate(found.images):
        _paste(sheet, image_HW3, (GAP + place * (SMALL + GAP), top + CAPTION + lower + GAP), SMALL, TRUE if true else FALSE)
    return np.asarray(sheet)


def _verdict(found: Sequence[tuple[object, bool]]) -> str:
    places = [str(place) for place, (_, true) in enumerate(found, 1) if true]
    return f": true at {', '.join(places)}" if places else f": none of the {len(found)} is true"


def _lines(text: str, most: int) -> list[str]:
    return textwrap.wrap(printable(text), LETTERS, max_lines=most, placeholder=" …") or [""]


def _paste(sheet: Image.Image, image_HW3: np.ndarray, corner: tuple[int, int], side: int, frame: tuple[int, int, int]) -> None:
    """The image inside a box, framed; a true one thickly."""
    scale = side / max(image_HW3.shape[:2])
    size = max(1, round(image_HW3.shape[1] * scale)), max(1, round(image_HW3.shape[0] * scale))
    sheet.paste(Image.fromarray(image_HW3).resize(size, Image.Resampling.BILINEAR), corner)
    thick = 4 if frame == TRUE else 1
    box = (corner[0] - 1, corner[1] - 1, corner[0] + size[0], corner[1] + size[1])
    ImageDraw.Draw(sheet).rectangle(box, outline=frame, width=thick)
