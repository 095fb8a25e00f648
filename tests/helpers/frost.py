"""Drawn stand-ins for the photographs of frost, larger and smaller than an image of 36 x 44 pixels; the golden values have the same."""

from __future__ import annotations

import numpy as np

SIZES = {"frost1.png": (40, 70), "frost2.png": (90, 30), "frost3.png": (20, 60), "frost4.jpg": (30, 31), "frost5.jpg": (100, 80)}


def drawn(name: str) -> np.ndarray:
    """[h,w,3] uint8 RGB."""
    return np.random.default_rng(int(name[5])).integers(0, 256, (*SIZES[name], 3), dtype=np.uint8)
