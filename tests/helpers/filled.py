"""Weights that are told by their names: the same on every machine, so that golden outputs need no weight file beside them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch


def filled(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """A tensor for each name: normal numbers whose seed is the name's CRC-32, scaled by the kind of tensor.

    numpy's RandomState gives the same numbers in every version.
    """
    return {name: torch.from_numpy(_fill(name, tuple(shape))) for name, shape in shapes.items()}


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("bias_mask"):  # DINOv3: keys have no bias
        return np.repeat(np.float32([1, 0, 1]), shape[0] // 3)
    if "gamma" in name:
        return 0.5 + 0.1 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    if len(shape) == 1:
        return 1 + 0.1 * noise
    if "token_embedding" in name:
        return 3 * noise
    if ("embed" in name and "proj" not in name) or "token" in name:
        return 0.2 * noise
    return noise * np.float32(np.prod(shape[1:])) ** np.float32(-0.5)
