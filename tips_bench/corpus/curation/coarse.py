"""A first look at many pairs of thumbnails at once, which rules out almost all that are not the same picture.

`looks.overlays` begins with small thumbnails, one pair and one size after another. Here the same correlations are computed for all pairs of
one size together, a group of a convolution each. A pair that is ruled out is one of which `overlays` finds nothing: no result changes.

Axes: P pairs, N images, n pairs of one size, S = SIDE and C = COARSE pixels of a thumbnail, h w pixels of a part, y x its places.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from tips_bench.corpus.curation.looks import COARSE, FLAT, SLACK, Thumbnail, aspects_of, coarse_sizes, small

AT_ONCE = 2048  # pairs: some 50 MB
MARGIN = 0.01  # of correlation: both ways round
LEAST_ENERGY = 0.5  # sum of squares round the mean, below which whole numbers are all equal


def may_agree(ones: Sequence[Thumbnail], others: Sequence[Thumbnail], pairs_P2: np.ndarray, least_scale: float, wanted: float) -> np.ndarray:
    """[P] False where no overlay of two thumbnails reaches the agreement `wanted`. pairs_P2: of places in `ones` and in `others`."""
    may_P = torch.zeros(len(pairs_P2), dtype=torch.bool)
    sides = _Side(ones, pairs_P2[:, 0]), _Side(others, pairs_P2[:, 1])
    for first in range(0, len(pairs_P2), AT_ONCE):
        for part, whole in (sides, sides[::-1]):
            for size, places in _by_size(part, whole, range(first, min(first + AT_ONCE, len(may_P))), least_scale).items():
                left_n = torch.tensor(places)[~may_P[places]]
                if len(left_n):
                    may_P[left_n] = _best(part, whole, left_n, size) >= wanted - SLACK - MARGIN
    return may_P.numpy()


class _Side:
    """One image of each pair. places_P: its place among the thumbnails."""

    def __init__(self, thumbnails: Sequence[Thumbnail], places_P: np.ndarray) -> None:
        self._thumbnails, self._places_P = thumbnails, torch.from_numpy(places_P)
        gray_NCC = torch.from_numpy(np.stack([np.zeros((COARSE, COARSE), np.uint8), *(small(one.gray_SS) for one in thumbnails)])[1:])
        self._gray_NCC = gray_NCC.float() - 128
        self._sums_2NDD = torch.stack([_summed(gray_NCC.double()), _summed(gray_NCC.double().square())])
        self._flat_N = [bool(one.gray_SS.std() < FLAT) for one in thumbnails]

    def gray(self, pairs_n: torch.Tensor) -> torch.Tensor:
        """[n,C,C] gray values round 0."""
        return self._gray_NCC[self._places_P[pairs_n]]

    def energy(self, pairs_n: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """[n,y,x] sums of squares round the mean of all windows of a size."""
        height, width = size
        sums_2NDD = self._sums_2NDD[:, self._places_P[pairs_n]]
        down_2NyD = sums_2NDD[:, :, height:] - sums_2NDD[:, :, :-height]
        sums_nyx, squares_nyx = down_2NyD[..., width:] - down_2NyD[..., :-width]
        return (squares_nyx - sums_nyx.square() / (height * width)).float()

    def flat(self, pair: int) -> bool:
        return self._flat_N[self._places_P[pair]]

    def aspect(self, pair: int) -> float:
        return self._thumbnails[self._places_P[pair]].aspect


def _by_size(part: _Side, whole: _Side, pairs: range, least_scale: float) -> dict[tuple[int, int], list[int]]:
    """Which pairs have a part of which size."""
    found = defaultdict[tuple[int, int], list[int]](list)
    for pair in pairs:
        if not part.flat(pair):
            for size in _sizes(part.aspect(pair) / whole.aspect(pair), least_scale):
                found[size].append(pair)
    return found


@lru_cache(maxsize=4096)
def _sizes(stretch: float, least_scale: float) -> frozenset[tuple[int, int]]:
    return frozenset(size for aspect in aspects_of(stretch) for size in coarse_sizes(aspect, least_scale))


def _best(part: _Side, whole: _Side, pairs_n: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[n] the greatest correlation over all places of a part, as it is or mirrored; 1 where the part shows nothing, as cv2 has it."""
    down_hC, right_wC = (_reduction(side) for side in size)
    part_nhw = (down_hC @ part.gray(pairs_n) @ right_wC.T).round()
    part_nhw = part_nhw - part_nhw.mean((1, 2), keepdim=True)
    both_n2hw = torch.stack([part_nhw, part_nhw.flip(-1)], 1)
    products = F.conv2d(whole.gray(pairs_n)[None], both_n2hw.flatten(0, 1)[:, None], groups=len(pairs_n))
    energy_n, energy_nyx = part_nhw.square().sum((1, 2)), whole.energy(pairs_n, size)
    lengths_nyx = torch.where(energy_nyx < LEAST_ENERGY, torch.inf, energy_nyx * energy_n[:, None, None]).sqrt()
    best_n = (products[0].unflatten(0, (-1, 2)).amax(1) / lengths_nyx).amax((1, 2))
    return torch.where(energy_n < LEAST_ENERGY, 1.0, best_n)


def _summed(values_NCC: torch.Tensor) -> torch.Tensor:
    """[N,D,D], D = C + 1: the sum above and to the left of each corner of a pixel."""
    return F.pad(values_NCC, (1, 0, 1, 0)).cumsum(1).cumsum(2)


@lru_cache(maxsize=COARSE)
def _reduction(side: int) -> torch.Tensor:
    """[h,C] by which cv2 brings COARSE pixels to so many."""
    return torch.from_numpy(cv2.resize(np.eye(COARSE, dtype=np.float32), (COARSE, side), interpolation=cv2.INTER_AREA))
