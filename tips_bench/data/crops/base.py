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
    """Batch number i of the crops: [B, ...] of each of their tensors, a function of i alone."""

    def __init__(self, crops: NumberedCrops, batch_size: int) -> None:
        self.crops, self.batch_size = crops, batch_size

    def __getitem__(self, iteration: int) -> tuple[Tensor, ...]:
        numbers = range(iteration * self.batch_size, (iteration + 1) * self.batch_size)
        return tuple(map(torch.stack, zip(*map(self.crops.tensors, numbers), strict=True)))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(samples)
