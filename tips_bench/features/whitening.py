"""Features of whole images whitened by a principal component analysis that is learned on stored ones, in bounded memory.

As nikosips/met dea402c has it (code/utils/utils.py:86-115): features of length 1 less their mean, on the axes of greatest variance, each
divided by its standard deviation over N, and of length 1 again. Axes whose variance is nothing but rounding are left out; the source
divides by it.

Axes: N images, F features, D of them after whitening.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk

ROWS = 1 << 14  # at once


@dataclass(frozen=True)
class Whitening:
    """mean_F, and matrix_FD with a column for each axis that is kept; both float64."""

    mean_F: np.ndarray
    matrix_FD: np.ndarray

    @classmethod
    def learned(cls, features_NF: np.ndarray, dimensions: int) -> Whitening:
        """Of features as stored; a memory map will do. dimensions: at most so many axes. Errors: features without any variance."""
        images, features = features_NF.shape
        mean_F = sum(part_nF.sum(0) for part_nF in _unit_parts(features_NF)) / images
        covariance_FF = sum((part_nF - mean_F).T @ (part_nF - mean_F) for part_nF in _unit_parts(features_NF)) / images
        variance_F, axes_FF = np.linalg.eigh(covariance_FF)
        order_F = np.argsort(-variance_F, kind="stable")
        variance_F, axes_FF = variance_F[order_F], axes_FF[:, order_F]
        kept = min(dimensions, int((variance_F > max(images, features) * np.finfo(np.float64).eps).sum()))
        if not kept:
            problem = f"the features of {images} images are all the same, and have no axes to whiten them on"
            raise UserError(problem, where="probe.whiten", fix="Choose a protocol that does not whiten features, or more images.")
        return cls(mean_F, axes_FF[:, :kept] / np.sqrt(variance_F[:kept]))

    def apply(self, features_NF: np.ndarray) -> np.ndarray:
        """Features as stored -> [N,D] of length 1, float64."""
        return np.concatenate([_unit((part_nF - self.mean_F) @ self.matrix_FD) for part_nF in _unit_parts(features_NF)])


def _unit_parts(features_NF: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of length 1, float64, so many at a time; zero stays zero."""
    for start in range(0, len(features_NF), ROWS):
        yield _unit(from_disk(np.array(features_NF[start : start + ROWS])).double().numpy())


def _unit(features_NF: np.ndarray) -> np.ndarray:
    length_N1 = np.linalg.norm(features_NF, axis=1, keepdims=True)
    return features_NF / np.where(length_N1 > 0, length_N1, 1.0)
