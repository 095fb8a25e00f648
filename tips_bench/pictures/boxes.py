"""A box that was found in an image, beside the true ones, and what it was found by.

Axes: H W pixels, h w token grid, N true boxes; the axis of 3 is RGB, that of 4 left, top, right, bottom in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tips_bench.pictures.dense import depth_colors
from tips_bench.pictures.panels import tile_row

TRUE, RIGHT, WRONG, SEED = (255, 255, 255), (0, 200, 90), (230, 40, 40), (230, 40, 40)
SHOWN = 600  # pixels of the longer side on which boxes are drawn, so that lines are as thick in every picture
THICK = 5
SHADE = 0.3  # of patches outside the object


@dataclass(frozen=True)
class Drawn:
    """What is drawn of an image. box_4: the one that was found; boxes_N4: the true ones; right: whether it is correct; caption: of both.

    map_hw: what it was found by; mask_hw: the object's patches; seed: (row, column) of the patch that it began at.
    """

    image_HW3: np.ndarray
    boxes_N4: np.ndarray
    box_4: np.ndarray
    right: bool
    caption: str
    map_hw: np.ndarray
    mask_hw: np.ndarray
    seed: tuple[int, int]


def box_panel(drawn: Drawn) -> np.ndarray:
    """Image, boxes (true ones white, the one that was found green or red), map with the seed, and the object's patches; uint8 RGB."""
    image_HW3, map_hw = drawn.image_HW3, drawn.map_hw
    map_hw3 = depth_colors(map_hw, float(map_hw.min()), float(map_hw.max()))
    map_hw3[drawn.seed] = SEED
    tiles = [
        ("image", image_HW3, True),
        (drawn.caption, _boxed(image_HW3, drawn.boxes_N4, drawn.box_4, RIGHT if drawn.right else WRONG), True),
        ("map, seed red", map_hw3, False),
        ("patches of the object", np.where(drawn.mask_hw[..., None], 255, round(255 * SHADE)).astype(np.uint8).repeat(3, -1), False),
    ]
    return np.asarray(tile_row(tiles, 0))


def _boxed(image_HW3: np.ndarray, boxes_N4: np.ndarray, box_4: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    scale = SHOWN / max(image_HW3.shape[:2])
    sheet = Image.fromarray(image_HW3).resize((round(image_HW3.shape[1] * scale), round(image_HW3.shape[0] * scale)))
    draw = ImageDraw.Draw(sheet)
    for one_4, line in [*((true_4, TRUE) for true_4 in boxes_N4), (box_4, color)]:
        left, top, right, bottom = (float(end) * scale for end in one_4)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=line, width=THICK)
    return np.asarray(sheet)
