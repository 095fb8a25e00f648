"""Which captions are an image's nearest and which images a caption's, in tiles, exactly, with ties broken against the model.

Embeddings are unit vectors rounded to multiples of 2**-26, which is finer than single precision at the length of 1. A similarity is
then a whole number of 2**-52, and by Cauchy and Schwarz so small that every partial sum of it is exact in double precision, in
whatever order a library adds. So equal vectors tie, and no size of a tile, number of threads or device can change a rank. The
matrix of all similarities never exists.

Single precision, twice as fast, goes first: with the bound on its error it tells how many are nearer at least and at most. The few
queries whose hits that leaves open are compared again in double precision.

Axes: I images, T texts, D feature, J the own captions of an image, nearest first, cut at the greatest rank; i t rows of a tile;
k the ranks of `metrics.retrieval`; 2 the least and the greatest number.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tips_bench.metrics.retrieval import RANKS, image_counts
from tips_bench.progress import bar

FRACTION_BITS = 26
ONE = float(1 << FRACTION_BITS)
TILE = (1024, 4096)  # images, texts
ROWS = 4096


def fixed_point(embeddings_ND: np.ndarray) -> np.ndarray:
    """Unit vectors in units of 2**-26, int32 [N,D]; a vector of zeros stays one."""
    wide_ND = np.ascontiguousarray(embeddings_ND, np.float64)
    length_N1 = np.sqrt(np.square(wide_ND).sum(axis=1, keepdims=True))
    unit_ND = np.divide(wide_ND, length_N1, out=np.zeros_like(wide_ND), where=length_N1 > 0)
    return np.rint(unit_ND * ONE).astype(np.int32)


def count_images(
    images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray, *, tile: tuple[int, int] = TILE, device: torch.device | str = "cpu"
) -> np.ndarray:
    """counts_IM of `image_counts` for each image.

    images_ID, texts_TD: of `fixed_point`; a memory map is read in pieces. starts: int [I+1]; the captions of image i are the texts from
    starts[i] on, up to starts[i+1], at least one. tile: images and texts whose similarities are held at once.
    """
    numbers_I = np.diff(starts)
    owner_T = np.repeat(np.arange(len(images_ID)), numbers_I)
    own_T = _own(images_ID, texts_TD, owner_T)
    own_IJ = _nearest_own(own_T, starts)
    tiles = _Tiles(images_ID, texts_TD, owner_T, tile, torch.device(device))
    others_IJ, before_T = tiles.nearer(own_IJ, own_T)
    found_IJk = _found(others_IJ + np.arange(own_IJ.shape[1])) & np.isfinite(own_IJ)[..., None]
    return image_counts(found_IJk.sum(axis=1), np.add.reduceat(_found(before_T).astype(np.int64), starts[:-1]), numbers_I)


def _found(places_x: np.ndarray) -> np.ndarray:
    """Whether each place, from 0 on, is among the first k, [..., k]."""
    return places_x[..., None] < np.array(RANKS)


def _own(images_ID: np.ndarray, texts_TD: np.ndarray, owner_T: np.ndarray) -> np.ndarray:
    """own_T: the similarity of each text and its image."""
    own_T = np.empty(len(texts_TD))
    for start, end in _pieces(len(texts_TD), ROWS):
        own_T[start:end] = (images_ID[owner_T[start:end]].astype(np.float64) / ONE * (texts_TD[start:end] / ONE)).sum(axis=1)
    return own_T


def _nearest_own(own_T: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """own_IJ: the greatest of each image's own similarities, falling; infinity where it has fewer captions."""
    numbers_I = np.diff(starts)
    own_IJ = np.full((len(numbers_I), min(max(RANKS), int(numbers_I.max()))), np.inf)
    for image, (start, number) in enumerate(zip(starts[:-1], numbers_I, strict=True)):
        falling = np.sort(own_T[start : start + number])[::-1][: own_IJ.shape[1]]
        own_IJ[image, : len(falling)] = falling
    return own_IJ


class _Tiles:
    """The similarities of all pairs but the right ones, a tile at a time."""

    def __init__(
        self, images_ID: np.ndarray, texts_TD: np.ndarray, owner_T: np.ndarray, tile: tuple[int, int], device: torch.device
    ) -> None:
        self.images_ID, self.texts_TD, self.owner_T, self.tile, self.device = images_ID, texts_TD, owner_T, tile, device

    def nearer(self, own_IJ: np.ndarray, own_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(others_IJ, before_T): texts of other images at least as near as each own one; other images at least as near as a text's own.

        Exact where it decides a hit, else a number that decides the same.
        """
        images, texts = np.arange(len(self.images_ID)), np.arange(len(self.texts_TD))
        if torch.get_float32_matmul_precision() != "highest":
            return self._compare(images, texts, own_IJ, own_T, torch.float64, [0.0])[0]
        slack = error(self.images_ID.shape[1])
        (others_IJ, before_T), (most_IJ, most_T) = self._compare(images, texts, own_IJ, own_T, torch.float32, [slack, -slack])
        places_J = np.arange(own_IJ.shape[1])
        open_I = np.flatnonzero((_found(others_IJ + places_J) != _found(most_IJ + places_J)).any(axis=(1, 2)))
        open_T = np.flatnonzero((_found(before_T) != _found(most_T)).any(axis=1))
        if len(open_I):
            others_IJ[open_I] = self._compare(open_I, texts, own_IJ[open_I], None, torch.float64, [0.0])[0][0]
        if len(open_T):
            before_T[open_T] = self._compare(images, open_T, own_IJ[:, :0], own_T[open_T], torch.float64, [0.0])[0][1]
        return others_IJ, before_T

    def _compare(
        self, images: np.ndarray, texts: np.ndarray, own_IJ: np.ndarray, own_T: np.ndarray | None, dtype: torch.dtype, slacks: list[float]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each slack, how many of the similarities of these images and texts are at least as great as an own one and the slack."""
        limits = [
            (self._on_device(own_IJ + slack, dtype), None if own_T is None else self._on_device(own_T + slack, dtype)) for slack in slacks
        ]
        totals = [(torch.zeros(own_IJ.shape, dtype=torch.int64), torch.zeros(len(texts), dtype=torch.int64)) for _ in slacks]
        with bar("comparing images and texts", len(images) * len(texts), unit="pairs") as advance:
            for top, bottom in _pieces(len(images), self.tile[0]):
                images_iD = self._unit(self.images_ID, images[top:bottom], dtype)
                for left, right in _pieces(len(texts), self.tile[1]):
                    similar_it = images_iD @ self._unit(self.texts_TD, texts[left:right], dtype).T
                    self._leave_out_own(similar_it, images[top:bottom], texts[left:right])
                    for (limit_IJ, limit_T), (others_IJ, before_T) in zip(limits, totals, strict=True):
                        for place in range(own_IJ.shape[1]):
                            others_IJ[top:bottom, place] += _count(similar_it >= limit_IJ[top:bottom, place, None], 1)
                        if limit_T is not None:
                            before_T[left:right] += _count(similar_it >= limit_T[left:right], 0)
                    advance(similar_it.numel())
        return [(others_IJ.numpy(), before_T.numpy()) for others_IJ, before_T in totals]

    def _leave_out_own(self, similar_it: Tensor, images: np.ndarray, texts: np.ndarray) -> None:
        rows = np.searchsorted(images, self.owner_T[texts])
        rows[rows == len(images)] = 0
        own = np.flatnonzero(images[rows] == self.owner_T[texts])
        similar_it[torch.from_numpy(rows[own]), torch.from_numpy(own)] = -torch.inf

    def _unit(self, table_ND: np.ndarray, rows: np.ndarray, dtype: torch.dtype) -> Tensor:
        """Rows of a table at length 1. In single precision they are rounded once more."""
        whole = len(rows) == rows[-1] - rows[0] + 1
        return self._on_device(table_ND[rows[0] : rows[-1] + 1] if whole else table_ND[rows], dtype).div_(ONE)

    def _on_device(self, values: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.array(values)).to(self.device, dtype)


def error(dim: int) -> float:
    """What a cosine of D features in single precision is off at most, and a little more.

    Each of D products and D - 1 sums is rounded by 2**-24 of a magnitude of at most 1, in whatever order they are added (Higham, Accuracy
    and Stability of Numerical Algorithms, 2002, section 3.1); both factors and the limit it is compared with were rounded before.
    """
    return (dim + 8) * 2.0**-24


def _count(true_it: Tensor, axis: int) -> Tensor:
    """How many are true along an axis; on a CPU by numpy, which is ten times as fast at it as torch."""
    if true_it.device.type != "cpu":
        return true_it.sum(dim=axis).cpu()
    return torch.from_numpy(np.count_nonzero(true_it.numpy(), axis=axis))


def _pieces(length: int, size: int) -> Iterator[tuple[int, int]]:
    yield from ((start, min(start + size, length)) for start in range(0, length, size))
