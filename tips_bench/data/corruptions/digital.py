"""Digital corruptions. Constants: bethgelab/imagecorruptions c959e65, imagecorruptions/corruptions.py:478-592.

Axes: H W pixels, 3 RGB.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from tips_bench.data.corruptions.noise import bytes_of


def contrast(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Closer to the image's mean color."""
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[strength - 1]
    values_HW3 = image_HW3 / 255
    mean_3 = values_HW3.mean((0, 1))
    return bytes_of((values_HW3 - mean_3) * share + mean_3)


def brightness(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """The value of HSV, the largest of R, G, B, raised; hue and saturation stay."""
    values_HW3 = image_HW3 / 255
    value_HW1 = values_HW3.max(-1, keepdims=True)
    raised_HW1 = np.minimum(value_HW1 + (0.1, 0.2, 0.3, 0.4, 0.5)[strength - 1], 1)
    share_HW3 = np.divide(values_HW3, value_HW1, out=np.ones_like(values_HW3), where=value_HW1 > 0)  # black has no color: it becomes gray
    return bytes_of(share_HW3 * raised_HW1)


def saturate(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """The saturation of HSV times a factor, plus a term; hue and value stay. Gray has the hue of red, as in scikit-image."""
    factor, term = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[strength - 1]
    values_HW3 = image_HW3 / 255
    value_HW1, least_HW1 = values_HW3.max(-1, keepdims=True), values_HW3.min(-1, keepdims=True)
    spread_HW1 = value_HW1 - least_HW1
    saturation_HW1 = np.divide(spread_HW1, value_HW1, out=np.zeros_like(value_HW1), where=value_HW1 > 0)
    wanted_HW1 = np.clip(saturation_HW1 * factor + term, 0, 1)
    below_HW3 = np.broadcast_to(np.array([0.0, 1.0, 1.0]), values_HW3.shape).copy()  # how far below the value, in spreads: red
    np.divide(value_HW1 - values_HW3, spread_HW1, out=below_HW3, where=spread_HW1 > 0)
    return bytes_of(value_HW1 * (1 - wanted_HW1 * below_HW3))


def jpeg_compression(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Written as JPEG of quality 25 to 7 by Pillow, and read again."""
    file = BytesIO()
    Image.fromarray(image_HW3).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[strength - 1])
    return np.array(Image.open(file, formats=["JPEG"]))


def pixelate(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Mean colors of larger pixels, 0.6 to 0.25 times as many along a side."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[strength - 1]
    height, width = image_HW3.shape[:2]
    small = Image.fromarray(image_HW3).resize((max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


def elastic_transform(image_HW3: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels moved by a smooth random field."""
    strength_of_field = 250 * (0.05, 0.065, 0.085, 0.1, 0.12)[strength - 1]
    height, width = image_HW3.shape[:2]
    most, sigmas = height * 0.005, (height * 0.01, width * 0.01)
    right_HW, down_HW = (
        (gaussian_filter(rng.uniform(-most, most, (height, width)), sigmas, mode="reflect", truncate=3) * strength_of_field).astype(
            np.float32
        )
        for _ in range(2)
    )
    rows_HW, columns_HW = np.arange(height)[:, None] + down_HW, np.arange(width)[None] + right_HW
    values_HW3 = image_HW3.astype(np.float32) / 255
    channels = [map_coordinates(values_HW3[..., channel], [rows_HW, columns_HW], order=1, mode="reflect") for channel in range(3)]
    return bytes_of(np.stack(channels, axis=-1))
