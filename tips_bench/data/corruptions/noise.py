"""Noise. Constants: bethgelab/imagecorruptions c959e65, imagecorruptions/corruptions.py:145-177.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

import numpy as np


def bytes_of(image_HW3: np.ndarray) -> np.ndarray:
    """uint8 of values in [0, 1]: cut to that range and rounded down, as the source does it."""
    return (np.clip(image_HW3, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Normal noise, added."""
    scale = (0.08, 0.12, 0.18, 0.26, 0.38)[strength - 1]
    return bytes_of(image_HW3 / 255 + rng.normal(size=image_HW3.shape, scale=scale))


def shot_noise(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Poisson noise of so many photons at full brightness."""
    photons = (60, 25, 12, 5, 3)[strength - 1]
    return bytes_of(rng.poisson(image_HW3 / 255 * photons) / photons)


def impulse_noise(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """This share of the values becomes 0 or 255, as scikit-image's random_noise ("s&p") draws them."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[strength - 1]
    hit_HW3 = rng.random(image_HW3.shape) <= share
    salt_HW3 = rng.random(image_HW3.shape) <= 0.5
    return np.where(hit_HW3, np.where(salt_HW3, 255, 0), image_HW3).astype(np.uint8)


def speckle_noise(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Normal noise times the image, added."""
    scale = (0.15, 0.2, 0.35, 0.45, 0.6)[strength - 1]
    values_HW3 = image_HW3 / 255
    return bytes_of(values_HW3 + values_HW3 * rng.normal(size=image_HW3.shape, scale=scale))
