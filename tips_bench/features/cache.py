"""Where the features of a run are kept: in its own work folder, or in a cache that many runs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tips_bench.features.store import Layout, ResumableArray
from tips_bench.files import digest
from tips_bench.ranks import ALONE, World


class FeatureCache:
    """Where a run keeps its stores: its own work folder, or a cache that later runs share.

    identity: null for a work folder; for a cache, a text of everything that shapes the features (weights, card of the model,
    preprocessing, layers, precision, data fingerprint), from which the name of the store is hashed. world: the ranks that share it.
    """

    def __init__(self, folder: Path, identity: str | None = None, world: World = ALONE) -> None:
        self.folder, self.identity, self.world = folder, identity, world
        self._open: list[ResumableArray] = []

    @property
    def persistent(self) -> bool:
        """Whether what is kept here is there for later runs."""
        return self.identity is not None

    def open(self, name: str, rows: Sequence[int], arrays: Layout, *details: object) -> ResumableArray:
        """The store `name`, taken up where it was left. details: what shapes its content besides the identity."""
        store = ResumableArray(self.place(name, *details), rows, arrays, digest(self.identity, *details), self.world)
        self._open.append(store)
        return store

    def place(self, name: str, *details: object) -> Path:
        """The folder of the store `name`, whether it is there or not."""
        return self.folder / (name if self.identity is None else f"{name}-{digest(self.identity, *details)[:24]}")

    def finish(self, store: ResumableArray) -> None:
        """A work folder's store is deleted, a cache's is kept."""
        if self.persistent:
            store.flush()
            store.close()
        else:
            store.delete()

    def flush(self) -> None:
        """Hand what later runs share to the disk."""
        for store in self._open if self.persistent else ():
            store.flush()

    def close(self) -> None:
        """Let go of every store, whatever happened."""
        for store in self._open:
            store.close()


DISK_TYPES = {torch.float32: "float32", torch.bfloat16: "int16", torch.float16: "float16"}


def to_disk(features: Tensor) -> np.ndarray:
    """Features as an array that numpy can store without loss: bfloat16 as its 16 bits."""
    features = features.cpu()
    return (features.view(torch.int16) if features.dtype == torch.bfloat16 else features).numpy()


def from_disk(array: np.ndarray) -> Tensor:
    """What `to_disk` was given."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
