"""Ranks as threads of one process: fast, for what ranks sum and tell one another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tips_bench.ranks import World


class Board:
    """Where each of `size` threads leaves something for all."""

    def __init__(self, size: int) -> None:
        self._found: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=60)

    def all(self, rank: int, own: Any) -> list[Any]:
        self._found[rank] = own
        self._barrier.wait()
        found = list(self._found)
        self._barrier.wait()
        return found


@dataclass(frozen=True)
class ThreadWorld(World):
    """One of several ranks that are threads."""

    board: Board = field(kw_only=True)

    def barrier(self) -> None:
        self.board.all(self.rank, None)

    def gather(self, found: Any) -> list[Any]:
        return self.board.all(self.rank, found)

    def object_from_first(self, found: Any) -> Any:
        return self.board.all(self.rank, found)[0]

    def gather_rows(self, rows_BX: Tensor) -> Tensor:
        return torch.cat(self.board.all(self.rank, rows_BX))

    def from_first(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self.board.all(self.rank, tensor.clone())[0])


def by_ranks(size: int, work: Callable[[World], Any]) -> list[Any]:
    """What `work` gives on each of so many ranks."""
    board = Board(size)
    worlds = [ThreadWorld(rank, size, "cpu", board=board) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, worlds))
