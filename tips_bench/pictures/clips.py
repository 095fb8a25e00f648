"""Objects followed through a clip: a strip of its frames, true masks above found ones, and an animation of both.

Axes: H W pixels; the axis of 3 is RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tips_bench.files import atomic
from tips_bench.pictures.panels import CAPTION, FAINT, GAP, INK, PAPER, font
from tips_bench.terminal import printable

STRIP = 5  # frames of a strip
SIDE = 220  # of the box of a frame
SECOND = 12  # frames of an animation that it shows in a second
COLORS = np.array(
    [
        *[(230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49)],
        *[(145, 30, 180), (66, 212, 244), (240, 50, 230), (191, 239, 69), (250, 190, 212)],
    ],
    np.float64,
)
SHADE = 0.55  # of an object's color over the frame


@dataclass(frozen=True)
class Shown:
    """One frame, already small. truth_HW: None where the frame has no mask. Ids: 0 = background."""

    frame: int
    image_HW3: np.ndarray
    truth_HW: np.ndarray | None
    found_HW: np.ndarray

    @classmethod
    def of(cls, frame: int, image_HW3: np.ndarray, truth_HW: np.ndarray | None, found_HW: np.ndarray) -> Shown:
        """A frame brought into its box."""
        height, width = image_HW3.shape[:2]
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image_HW3 = np.asarray(Image.fromarray(image_HW3).resize(size, Image.Resampling.BILINEAR))
        return cls(frame, image_HW3, None if truth_HW is None else _resized(truth_HW, size), _resized(found_HW, size))


def _resized(ids_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(ids_HW).resize(size, Image.Resampling.NEAREST))


def shaded(image_HW3: np.ndarray, ids_HW: np.ndarray | None) -> np.ndarray:
    """The frame with each object in its color, uint8 RGB; gray where nobody knows the objects."""
    if ids_HW is None:
        return np.repeat(image_HW3.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    colors_HW3 = COLORS[(ids_HW.astype(np.int64) - 1) % len(COLORS)]
    mixed_HW3 = (1 - SHADE) * image_HW3 + SHADE * colors_HW3
    return np.where(ids_HW[..., None] > 0, np.round(mixed_HW3), image_HW3).astype(np.uint8)


def clip_panel(caption: str, frames: Sequence[Shown]) -> np.ndarray:
    """A strip of up to STRIP frames, truth above what was found; uint8 RGB."""
    height, width = frames[0].image_HW3.shape[:2]
    sheet = Image.new("RGB", (STRIP * (SIDE + GAP) + GAP, 2 * CAPTION + 2 * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, CAPTION // 2), printable(f"{caption}: true masks above, found ones below"), INK, font(), anchor="lm")
    for column, shown in enumerate(frames[:STRIP]):
        left = GAP + column * (SIDE + GAP)
        draw.text((left, CAPTION + CAPTION // 2), f"frame {shown.frame}", FAINT, font(), anchor="lm")
        for row, ids_HW in enumerate((shown.truth_HW, shown.found_HW)):
            top = 2 * CAPTION + row * (height + GAP)
            sheet.paste(Image.fromarray(shaded(shown.image_HW3, ids_HW)), (left, top))
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=FAINT)
    return np.asarray(sheet)


def save_film(frames: Sequence[Shown], stem: Path) -> None:
    """Write STEM.webp, an animation of true masks beside found ones, atomically; it repeats without end."""
    pictures = [
        Image.fromarray(np.concatenate([shaded(one.image_HW3, ids_HW) for ids_HW in (one.truth_HW, one.found_HW)], 1)) for one in frames
    ]
    with atomic(stem.with_name(f"{stem.name}.webp")) as temporary:
        pictures[0].save(
            temporary, format="WEBP", save_all=True, append_images=pictures[1:], duration=round(1000 / SECOND), loop=0, quality=80
        )
