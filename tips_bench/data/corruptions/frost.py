"""Frost on the lens: photographs of it, laid over the image. Source: bethgelab/imagecorruptions c959e65,
imagecorruptions/corruptions.py:315-365.

The photographs are brought from that repository when they are first needed. Their license is not stated, so tips-bench has none.

Axes: H W pixels, h w pixels of a photograph, 3 RGB.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.fetch import fetch

ADDRESS = "https://raw.githubusercontent.com/bethgelab/imagecorruptions/c959e659c9713837d2acd7ce785a81202d4be799/imagecorruptions/frost"
# name -> hex SHA-256; there is a sixth, which the source's random number never reaches
PHOTOGRAPHS = {
    "frost1.png": "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755",
    "frost2.png": "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137",
    "frost3.png": "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504",
    "frost4.jpg": "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e",
    "frost5.jpg": "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2",
}
MARGIN = 1.1  # of a photograph beyond the image, so that there is a place to choose


def frost(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A part of one of five photographs over a darkened image. Errors: a photograph that cannot be brought."""
    share, amount = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[strength - 1]
    photograph_hw3 = photograph(list(PHOTOGRAPHS)[int(rng.integers(0, 5, None))])
    height, width = image_HW3.shape[:2]
    scale = MARGIN * max(1.0, height / photograph_hw3.shape[0], width / photograph_hw3.shape[1])
    size = math.ceil(photograph_hw3.shape[1] * scale), math.ceil(photograph_hw3.shape[0] * scale)
    enlarged_hw3 = cv2.resize(photograph_hw3, dsize=size, interpolation=cv2.INTER_CUBIC)
    top = int(rng.integers(0, enlarged_hw3.shape[0] - height, None))
    left = int(rng.integers(0, enlarged_hw3.shape[1] - width, None))
    over_HW3 = enlarged_hw3[top : top + height, left : left + width]
    return np.clip(share * image_HW3 + amount * over_HW3, 0, 255).astype(np.uint8)


@functools.cache
def photograph(name: str) -> np.ndarray:
    """One of the photographs, [h,w,3] uint8 RGB, brought here where it is not."""
    path = cache_root() / "corruptions" / name
    fetch(f"{ADDRESS}/{name}", path, sha256=PHOTOGRAPHS[name], title=f"photograph of frost {name}")
    found_hw3 = cv2.imread(str(path))
    if found_hw3 is None:
        raise UserError("not an image", where=path, fix="Remove the file.")
    return found_hw3[..., ::-1].copy()
