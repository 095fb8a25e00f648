"""Training crops by number: a crop is a function of (seed, number) alone, in any worker process and after any restart.

Axes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tips_bench.data.base import Reader
from tips_bench.errors import UserError
from tips_bench.ranks import ALONE, World

SampleT = TypeVar("SampleT")


class NumberedCrops(Generic[SampleT]):
    """Crops by number, without end. Each run through `indices`, the samples that may be used, is in an order of its own.

    Errors: no sample at all.
    """

    def __init__(self, reader: Reader[SampleT], indices: Sequence[int], seed: int) -> None:
        self.reader, self.indices, self.seed = reader, list(indices), seed
        if not self.indices:
            raise UserError("the training split is empty", where=reader.name)

    def index(self, number: int) -> int:
        """The reader's index behind crop `number`."""
        epoch, position = divmod(number, len(self.indices))
        return self.indices[_order(self.seed, epoch, len(self.indices))[position]]

    def sample(self, number: int) -> SampleT:
        """The sample behind crop `number`. Errors: a broken or missing file, named."""
        return self.reader.load(self.index(number))

    def tensors(self, number: int) -> tuple[Tensor, ...]:
        """Crop `number` as a batch holds it: the image, then its targets."""
        raise NotImplementedError


class CropBatches(Dataset):
    """Batch number i of the crops, a function of i alone: [B, ...] of each of their tensors, of which this rank has its part.

    Errors: more ranks than crops of a batch.
    """

    def __init__(self, crops: NumberedCrops, batch_size: int, world: World = ALONE) -> None:
        self.crops, self.batch_size, self.world = crops, batch_size, world
        if world.size > batch_size:
            problem = f"a batch of {batch_size} crops does not give each of {world.size} ranks one"
            raise UserError(problem, where="torchrun", fix=f"Use at most {batch_size} ranks.")

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        first, size = iteration * self.batch_size, self.world.size
        low, high = (first + self.batch_size * rank // size for rank in (self.world.rank, self.world.rank + 1))
        numbers = range(low, high)
        return tuple(map(torch.stack, zip(*map(self.crops.tensors, numbers), strict=True)))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(samples)
