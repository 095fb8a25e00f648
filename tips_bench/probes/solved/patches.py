"""Soft-labelled patches in chunks, and sums over them that any number of ranks makes to the same bits.

Axes: N patches of a chunk, D feature, C classes, L lanes of this rank, X what is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.cache import from_disk
from tips_bench.ranks import ALONE, LANES, World

CHUNK_ROWS = 1 << 14  # of a chunk, at most
LEAST_ROWS = 1 << 10  # of a chunk, where there are so many


class Patches:
    """Soft-labelled patches in chunks, of which a rank has every so many. They are kept in memory if they take at most `resident_bytes`.

    arrays: "features" [N,D] as stored (float32, or the 16 bits of bfloat16), "counts" [N,C] labelled pixels of each class,
    "area" [N] all pixels. rows: which of them, ascending. world: the ranks, all of which have the same arrays and rows.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], rows: np.ndarray, device: torch.device, resident_bytes: int, world: World = ALONE
    ) -> None:
        self._arrays, self.device, self.world = arrays, device, world
        self.dim, self.classes = arrays["features"].shape[1], arrays["counts"].shape[1]
        lanes = _lanes(rows)
        self._lanes = [lanes[lane] for lane in world.share(range(LANES))]
        self._center_D: Tensor | None = None
        self._resident: list[tuple[int, Tensor, Tensor]] | None = None
        own = sum(len(chunk) for chunks in self._lanes for chunk in chunks)
        if own * (self.dim + self.classes) * 4 <= resident_bytes:
            self._resident = list(self._chunks())

    def center(self, mean_D: Tensor) -> None:
        """From now on features are less this mean, in float32: small numbers keep the products exact."""
        self._center_D = mean_D.float()
        for _, features_ND, _ in self._resident or ():
            features_ND -= self._center_D

    def sums(self, length: int, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The sum of `of(features_ND, shares_NC)` over the chunks of all ranks, on every rank: float64 of this length.

        Features and shares are float32; shares: part of the patch's area that bears each class.
        """
        sums_LX = torch.zeros(len(self._lanes), length, dtype=torch.float64, device=self.device)
        for lane, features_ND, shares_NC in self._resident or self._chunks():
            sums_LX[lane] += of(features_ND, shares_NC)
        return self.world.add_lanes(sums_LX)

    def _chunks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(number of its lane on this rank, features_ND, shares_NC), read from the disk."""
        for lane, chunks in enumerate(self._lanes):
            for rows in chunks:
                features_ND = from_disk(self._arrays["features"][rows]).to(self.device, torch.float32, copy=True)
                if self._center_D is not None:
                    features_ND -= self._center_D
                area_N1 = np.maximum(self._arrays["area"][rows], 1)[:, None]
                shares_NC = (self._arrays["counts"][rows] / area_N1).astype(np.float32)
                yield lane, features_ND, torch.from_numpy(shares_NC).to(self.device)


def _lanes(rows: np.ndarray) -> list[list[np.ndarray]]:
    """The rows of each chunk of each lane: as many chunks a lane, of as many rows, whatever the number of ranks."""
    chunks = LANES * -(-len(rows) // (LANES * CHUNK_ROWS))
    size = max(LEAST_ROWS, -(-len(rows) // max(chunks, 1)))
    found = [rows[start : start + size] for start in range(0, len(rows), size)]
    a_lane = -(-len(found) // LANES)
    return [found[lane * a_lane : (lane + 1) * a_lane] for lane in range(LANES)]
