"""Weather. Constants: bethgelab/imagecorruptions c959e65, imagecorruptions/corruptions.py:
287-306 (fog), 357-405 (snow), 408-475 (spatter).

Axes: H W pixels, 3 RGB, M side of a fractal.
"""

from __future__ import annotations

import cv2
import numpy as np

from tips_bench.data.corruptions.blur import along_a_line, enlarged, smoothed
from tips_bench.data.corruptions.noise import bytes_of

WATER, MUD = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255  # RGB


def fog(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A plasma fractal added, and the whole brought back to its range."""
    amount, decay = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[strength - 1]
    values_HW3 = image_HW3 / 255
    brightest = values_HW3.max()
    height, width = image_HW3.shape[:2]
    fractal_HW = plasma(1 << (max(image_HW3.shape) - 1).bit_length(), decay, rng)[:height, :width]
    return bytes_of((values_HW3 + amount * fractal_HW[..., None]) * brightest / (brightest + amount))


def plasma(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """heights_MM in [0, 1], by the diamond-square algorithm; `side` is a power of two. Source: corruptions.py:36-88."""
    heights_MM = np.zeros((side, side), dtype=np.float32)
    step, noise = side, 100.0

    def rough(total: np.ndarray) -> np.ndarray:
        return total / 4 + noise * rng.uniform(-noise, noise, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights_MM[::step, ::step]
        squares = corners + np.roll(corners, -1, axis=0)
        squares += np.roll(squares, -1, axis=1)
        heights_MM[half::step, half::step] = rough(squares)
        middles = heights_MM[half::step, half::step]
        upper = heights_MM[::step, ::step]
        heights_MM[::step, half::step] = rough(middles + np.roll(middles, 1, axis=0) + upper + np.roll(upper, -1, axis=1))
        heights_MM[half::step, ::step] = rough(middles + np.roll(middles, 1, axis=1) + upper + np.roll(upper, -1, axis=0))
        step, noise = half, noise / decay
    heights_MM -= heights_MM.min()
    return heights_MM / max(heights_MM.max(), np.finfo(np.float32).tiny)


def snow(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Flakes in two directions over a whitened image."""
    mean, scale, zoom, threshold, radius, sigma, share = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[strength - 1]
    values_HW3 = image_HW3.astype(np.float32) / 255
    height, width = image_HW3.shape[:2]
    flakes_HW = enlarged(rng.normal(size=(height, width), loc=mean, scale=scale), zoom)
    flakes_HW[flakes_HW < threshold] = 0
    flakes_HW = along_a_line(np.clip(flakes_HW, 0, 1), int(radius), sigma, rng.uniform(-135, -45))
    flakes_HW1 = (np.round(np.clip(flakes_HW, 0, 1) * 255) / 255)[:height, :width, None]
    gray_HW1 = cv2.cvtColor(values_HW3, cv2.COLOR_RGB2GRAY)[..., None]
    white_HW3 = share * values_HW3 + (1 - share) * np.maximum(values_HW3, gray_HW1 * 1.5 + 0.5)
    return bytes_of(white_HW3 + flakes_HW1 + np.rot90(flakes_HW1, k=2))


def spatter(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Drops of water (1 to 3) or mud (4 and 5) on the lens."""
    mean, scale, sigma, threshold, amount, mud = (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    )[strength - 1]
    values_HW3 = image_HW3.astype(np.float32) / 255
    liquid_HW = smoothed(rng.normal(size=image_HW3.shape[:2], loc=mean, scale=scale), sigma)
    liquid_HW[liquid_HW < threshold] = 0
    if mud:
        cover_HW = smoothed((liquid_HW > threshold).astype(np.float32), amount)
        cover_HW[cover_HW < 0.8] = 0
        return bytes_of(values_HW3 * (1 - cover_HW[..., None]) + MUD * cover_HW[..., None])
    return bytes_of(values_HW3 + amount * _shine((liquid_HW * 255).astype(np.uint8))[..., None] * WATER)


def _shine(liquid_HW: np.ndarray) -> np.ndarray:
    """How bright drops are, 1 at the most: by the distance from their edges, seen in relief."""
    distance_HW = cv2.distanceTransform(255 - cv2.Canny(liquid_HW, 50, 150), cv2.DIST_L2, 5)
    relief_HW = cv2.equalizeHist(cv2.blur(np.minimum(distance_HW, 20), (3, 3)).astype(np.uint8))
    relief_HW = cv2.filter2D(relief_HW, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    shine_HW = liquid_HW * cv2.blur(relief_HW, (3, 3)).astype(np.float32)
    return shine_HW / max(float(shine_HW.max()), 1.0)
