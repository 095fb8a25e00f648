"""Blurs. Constants: bethgelab/imagecorruptions c959e65, imagecorruptions/corruptions.py:180-284; helpers :18-32,75-133.

Kernels are in pixels of the stored image, whatever its size.

Axes: H W pixels, 3 RGB, K kernel.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.ndimage import zoom as spline_zoom

from tips_bench.data.corruptions.noise import bytes_of

ZOOMS = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # (end, step) from 1


def smoothed(values_HW3: np.ndarray, sigma: float) -> np.ndarray:
    """Each channel through a Gaussian of `sigma` pixels, with scikit-image's borders."""
    sigmas = (sigma, sigma, 0.0) if values_HW3.ndim == 3 else (sigma, sigma)
    return gaussian_filter(values_HW3, sigmas, mode="nearest", truncate=4.0)


def gaussian_blur(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian of 1 to 6 pixels."""
    return bytes_of(smoothed(image_HW3 / 255, (1, 2, 3, 4, 6)[strength - 1]))


def defocus_blur(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A disk, as of a lens out of focus."""
    radius, alias = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[strength - 1]
    reach, side = max(radius, 8), 3 if radius <= 8 else 5
    steps = np.arange(-reach, reach + 1)
    disk_KK = np.array(steps[:, None] ** 2 + steps[None] ** 2 <= radius**2, dtype=np.float32)
    disk_KK = cv2.GaussianBlur(disk_KK / disk_KK.sum(), ksize=(side, side), sigmaX=alias)
    return bytes_of(cv2.filter2D(image_HW3 / 255, -1, disk_KK))


def glass_blur(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Blurred, each pixel replaced by a near one, blurred again.

    The source means to swap two pixels; because both sides are views of one array, its line copies the second onto the first
    (corruptions.py:135). This is what is done here, too.
    """
    sigma, reach, times = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[strength - 1]
    first_HW3 = (smoothed(image_HW3 / 255, sigma) * 255).astype(np.uint8)
    height, width = image_HW3.shape[:2]
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    place = list(range(height * width))
    steps = rng.integers(-reach, reach, size=(times, len(rows), len(columns), 2))
    offsets = (steps[..., 1] * width + steps[..., 0]).reshape(times, -1).tolist()
    here = [row * width + column for row in rows for column in columns]
    for round_ in offsets:
        for one, offset in zip(here, round_, strict=True):  # in order: a pixel may be read after it was replaced
            place[one] = place[one + offset]
    moved_HW3 = first_HW3.reshape(-1, 3)[place].reshape(image_HW3.shape)
    return bytes_of(smoothed(moved_HW3 / 255, sigma))


def along_a_line(values_HW3: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """The mean of copies that are moved step by step in one direction, weighted by half a Gaussian; the edge is repeated."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    reach = len(steps)
    kernel_KK = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step, weight in zip(steps, weights, strict=True):
        down, right = math.ceil(step * sine - 0.5), math.ceil(step * cosine - 0.5)
        if abs(down) >= values_HW3.shape[0] or abs(right) >= values_HW3.shape[1]:
            break  # beyond the image
        kernel_KK[reach + down, reach + right] += weight
    return cv2.filter2D(values_HW3, -1, kernel_KK, borderType=cv2.BORDER_REPLICATE)


def motion_blur(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """A line of one direction between -45 and 45 degrees."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[strength - 1]
    blurred_HW3 = along_a_line(image_HW3.astype(np.float64), radius, sigma, rng.uniform(-45, 45))
    return np.clip(blurred_HW3 + 1e-9, 0, 255).astype(np.uint8)  # a constant image stays: a sum of weights may be just below 1


def enlarged(values_HW3: np.ndarray, factor: float) -> np.ndarray:
    """The middle, zoomed to at least the size before."""
    height, width = (math.ceil(side / factor) for side in values_HW3.shape[:2])
    top, left = (values_HW3.shape[0] - height) // 2, (values_HW3.shape[1] - width) // 2
    middle = values_HW3[top : top + height, left : left + width]
    return spline_zoom(middle, (factor, factor, *([1] * (values_HW3.ndim - 2))), order=1)


def zoom_blur(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """The mean of the image and of what a zooming lens sees of it."""
    end, step = ZOOMS[strength - 1]
    factors = np.arange(1, end, step)
    values_HW3 = (image_HW3 / 255).astype(np.float32)
    height, width = values_HW3.shape[:2]
    total_HW3 = np.zeros_like(values_HW3)
    for factor in factors:
        total_HW3 += enlarged(values_HW3, factor)[:height, :width]
    return bytes_of((values_HW3 + total_HW3) / (len(factors) + 1))
