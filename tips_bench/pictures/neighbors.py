"""What a model takes for alike: an image and its nearest others, or the classes it guesses, those that are right in green
and those that do not count in yellow.

Axes: H W pixels; the axis of 3 is RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from tips_bench.pictures.panels import CAPTION, FAINT, GAP, INK, LINE, PAPER, font
from tips_bench.terminal import printable

SHOWN = 5
SIDE = 176  # of the box of an image
LETTERS = 24  # of a caption
RIGHT = (0, 128, 60)
NOT_COUNTED = (200, 140, 0)
COLORS = {True: RIGHT, None: NOT_COUNTED}
THICK = 4

Found = tuple[np.ndarray, str, bool | None]  # image_HW3, caption, whether it is right; None = it does not count


def neighbor_panel(image_HW3: np.ndarray, caption: str, found: Sequence[Found]) -> np.ndarray:
    """An image and up to SHOWN others, nearest first; uint8 RGB."""
    sheet = _paper(CAPTION + SIDE + 2 * GAP)
    for column, (other_HW3, text, right) in enumerate([(image_HW3, caption, False), *found[:SHOWN]]):
        left = GAP + column * (SIDE + GAP) + (2 * GAP if column else 0)
        _place(sheet, other_HW3, left, text, COLORS.get(right, FAINT), COLORS.get(right, INK))
    return np.asarray(sheet)


def guess_panel(image_HW3: np.ndarray, caption: str, guesses: Sequence[tuple[str, bool]]) -> np.ndarray:
    """An image and the classes guessed for it, the first guess on top; uint8 RGB."""
    sheet = _paper(CAPTION + SIDE + 2 * GAP)
    _place(sheet, image_HW3, GAP, caption, FAINT, INK)
    draw = ImageDraw.Draw(sheet)
    for line, (text, right) in enumerate(guesses[:SHOWN]):
        words = printable(f"{line + 1}. {text}")
        draw.text((SIDE + 4 * GAP, CAPTION + line * LINE + LINE // 2), words, RIGHT if right else INK, font(), anchor="lm")
    return np.asarray(sheet)


def _paper(height: int) -> Image.Image:
    return Image.new("RGB", ((SHOWN + 1) * (SIDE + GAP) + 3 * GAP, height), PAPER)


def _place(
    sheet: Image.Image, image_HW3: np.ndarray, left: int, caption: str, frame: tuple[int, int, int], ink: tuple[int, int, int]
) -> None:
    """An image in its box under its caption, framed; thickly in any color but FAINT."""
    scale = SIDE / max(image_HW3.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image_HW3.shape[1], image_HW3.shape[0]))
    draw = ImageDraw.Draw(sheet)
    text = printable(caption)
    draw.text((left, CAPTION // 2), text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…", ink, font(), anchor="lm")
    sheet.paste(Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BILINEAR), (left, CAPTION))
    box = (left - 1, CAPTION - 1, left + width, CAPTION + height)
    draw.rectangle(box, outline=frame, width=1 if frame == FAINT else THICK)
