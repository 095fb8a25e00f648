"""Two images side by side with a line for each match: green where it is right, red where it is not.

Axes: H W pixels; the axis of 3 is RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tips_bench.pictures.panels import CAPTION, FAINT, GAP, INK, PAPER, font
from tips_bench.terminal import printable

SIDE = 440  # of the box of an image
RIGHT, WRONG, TRUTH = (0, 170, 80), (220, 50, 40), (255, 200, 0)
DOT = 3


@dataclass(frozen=True)
class Line:
    """A match: x, y in pixels of the first and the second image. truth: where it should be in the second, drawn as a ring where wrong."""

    start: tuple[float, float]
    end: tuple[float, float]
    truth: tuple[float, float] | None
    right: bool


def match_panel(first_HW3: np.ndarray, second_HW3: np.ndarray, lines: Sequence[Line], caption: str) -> np.ndarray:
    """Both images under a caption, with lines between them; uint8 RGB. Right lines are drawn over wrong ones."""
    tallest = max(round(SIDE * image_HW3.shape[0] / max(image_HW3.shape[:2])) for image_HW3 in (first_HW3, second_HW3))
    sheet = Image.new("RGB", (2 * SIDE + 3 * GAP, CAPTION + tallest + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, CAPTION // 2), printable(caption), INK, font(), anchor="lm")
    scales = [_place(sheet, image_HW3, left) for image_HW3, left in ((first_HW3, GAP), (second_HW3, SIDE + 2 * GAP))]

    def on_sheet(point: tuple[float, float], image: int) -> tuple[float, float]:
        return (GAP, SIDE + 2 * GAP)[image] + point[0] * scales[image], CAPTION + point[1] * scales[image]

    for line in sorted(lines, key=lambda line: line.right):
        start, end, color = on_sheet(line.start, 0), on_sheet(line.end, 1), RIGHT if line.right else WRONG
        draw.line((*start, *end), color, 2 if line.right else 1)
        for x, y in (start, end):
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), color, PAPER)
        if line.truth is not None and not line.right:
            x, y = on_sheet(line.truth, 1)
            draw.ellipse((x - 2 * DOT, y - 2 * DOT, x + 2 * DOT, y + 2 * DOT), None, TRUTH, 2)
    return np.asarray(sheet)


def _place(sheet: Image.Image, image_HW3: np.ndarray, left: int) -> float:
    """Paste an image into its box; returns by how much it was scaled."""
    scale = SIDE / max(image_HW3.shape[:2])
    width, height = (max(1, round(side * scale)) for side in (image_HW3.shape[1], image_HW3.shape[0]))
    sheet.paste(Image.fromarray(image_HW3).resize((width, height), Image.Resampling.BILINEAR), (left, CAPTION))
    ImageDraw.Draw(sheet).rectangle((left - 1, CAPTION - 1, left + width, CAPTION + height), outline=FAINT)
    return scale
