"""Drop path and dropout whose random numbers depend on a seed and on the numbers of the samples alone.

So a step that is computed again, in other pieces, on other ranks or after a stop, drops the same. Numbers come from a hash of 32 bits in
place of a generator: two rounds of shifts and products, as in MurmurHash's finalizer, with factors below 2^31 so that nothing overflows.

    paths = DropPaths(seed, depth=12, rate=0.3).plan(samples_B, views=(0, 1), device=device)    # for the blocks of an image tower
    dropout = Dropout.of_texts(seed, numbers_T, rate=0.1, device=device)                        # for a text tower

Axes in tensor names: B samples, V = views x B rows of a tower's input, R kept rows, T texts, L tokens, C last axis of what is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from tips_bench.models.configs import Growth

TensorOrInt = TypeVar("TensorOrInt", Tensor, int)

_WORD = 0xFFFFFFFF
_ODD = 0x9E3779B9  # so that zero does not stay zero
_FACTORS = (0x7FEB352D, 0x31848BAB)
_PATHS, _TEXTS = 1, 2  # so that the two draw different numbers


class KeptRows(NamedTuple):
    """The rows of a batch for which a residual branch is computed; its output is multiplied by `factor`, one over their expected share."""

    rows_R: Tensor
    factor: float


class BlockPaths(NamedTuple):
    """What is kept of the two branches of a block."""

    attention: KeptRows
    mlp: KeptRows


class DropPaths:
    """Stochastic depth (Huang et al., arXiv 1603.09382): a sample skips a branch with the rate of its block.

    rate: of the last block. growth: "uniform", all blocks have it; "linear", from 0 at the first block (both as DINOv2's
    drop_path_uniform, facebookresearch/dinov2 at b8931f7, dinov2/models/vision_transformer.py, lines 117 to 120). DINOv2 skips a fixed
    number of samples of each batch; here each sample is skipped for itself, and only kept rows are computed.
    """

    def __init__(self, seed: int, *, depth: int, rate: float, growth: Growth = "linear") -> None:
        self.seed = seed
        self.rates = [rate if growth == "uniform" else rate * index / max(depth - 1, 1) for index in range(depth)]

    def plan(self, samples_B: Tensor, views: Sequence[int], device: torch.device) -> list[BlockPaths | None] | None:
        """For each block what it keeps of rows [view, sample], the samples of one view after the other; None where nothing is dropped.

        samples_B: int64 on the CPU. views: numbers of the views, which drop differently.
        """
        if not any(self.rates):
            return None
        key_B = _fold(_key(self.seed, _PATHS), samples_B, samples_B >> 32)
        key_V = torch.cat([_fold(key_B, view) for view in views])
        word_2DV = torch.stack([_fold(key_V, branch) for branch in range(2 * len(self.rates))])
        limits = torch.tensor([int(rate * 2**32) for rate in self.rates]).repeat_interleave(2)
        kept = word_2DV >= limits[:, None]
        rows = kept.nonzero()[:, 1].to(device, non_blocking=True).split(kept.sum(dim=1).tolist())
        branches = [KeptRows(rows[index], 1 / (1 - self.rates[index // 2])) for index in range(len(rows))]
        return [BlockPaths(*branches[2 * index : 2 * index + 2]) if rate else None for index, rate in enumerate(self.rates)]


class Dropout(NamedTuple):
    """Dropout (Srivastava et al., 2014) of what one row for each text stands for. key_T: int64, on the device of what is dropped."""

    key_T: Tensor
    rate: float

    @classmethod
    def of_texts(cls, seed: int, numbers_T: Tensor, *, rate: float, device: torch.device) -> Dropout | None:
        """None where nothing is dropped. numbers_T: of the texts among all of a run, int64 on the CPU."""
        key_T = _fold(_key(seed, _TEXTS), numbers_T, numbers_T >> 32)
        return cls(key_T.to(device, non_blocking=True), rate) if rate else None

    def at(self, place: int) -> Dropout:
        """For one of several blocks, or one of several tensors of a block."""
        return Dropout(_fold(self.key_T, place), self.rate)

    def __call__(self, x: Tensor) -> Tensor:
        """A tensor [T,...,C] with values that are dropped set to zero, and the others larger by one over the share that is kept.

        Whether a value is dropped depends on its place in its text: longer padding changes nothing.
        """
        key = self.key_T
        for size in x.shape[1:-1]:
            key = _fold(key[..., None], torch.arange(size, device=x.device))
        columns_C = _mix(torch.arange(1, x.shape[-1] + 1, device=x.device))
        kept = _mix(key[..., None] ^ columns_C) >= int(self.rate * 2**32)
        return torch.where(kept, x, 0) * (1 / (1 - self.rate))


def _key(seed: int, use: int) -> Tensor:
    return _fold(torch.tensor(use), torch.tensor(seed), torch.tensor(seed >> 32))


def _fold(key: Tensor, *numbers: Any) -> Tensor:
    """A key of a key and of numbers or tensors of them, whose lower 32 bits count."""
    for number in numbers:
        key = _mix((3 * key + _mix(number & _WORD)) & _WORD)
    return key


def _mix(word: TensorOrInt) -> TensorOrInt:
    """32 bits, of which each depends on all of the word's."""
    word = (word + _ODD) & _WORD
    for factor in _FACTORS:
        word = word ^ (word >> 16)
        word = (word * factor) & _WORD
    return word ^ (word >> 15)
