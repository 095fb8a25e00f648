"""What the backbone spends in an evaluation."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Meter:
    """What was spent. sizes: (height, width) in pixels -> images, crops or windows of it through the backbone.

    data_wait_s: seconds of waiting for decoded images.
    """

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    data_wait_s: float = 0.0
    _host_s: float = 0.0
    _pending: deque[tuple[Any, Any]] = field(default_factory=deque)

    @property
    def image_forwards(self) -> int:
        """Images, crops or windows through the backbone."""
        return self.sizes.total()

    @property
    def encoder_s(self) -> float:
        """Seconds inside the backbone. On a GPU, this waits until it has done what it was asked to do."""
        self._settle(wait=True)
        return self._host_s

    def waited(self, seconds: float) -> None:
        """Enter a wait for decoded images."""
        self.data_wait_s += seconds

    @contextmanager
    def timed(self, images: int, size: tuple[int, int], device: torch.device) -> Iterator[None]:
        """Enter what is done inside as forward passes of so many images of this (height, width).

        On a GPU it is timed by events in its stream, so that nothing waits for it.
        """
        if device.type == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream(device)
            first.record(stream)
            yield
            last.record(stream)
            self._pending.append((first, last))
            self._settle(wait=False)
        else:
            start = time.perf_counter()
            yield
            self._host_s += time.perf_counter() - start
        self.sizes[size] += images

    def _settle(self, wait: bool) -> None:
        """Add up the events that are over. wait: for all of them."""
        while self._pending and (wait or self._pending[0][1].query()):
            first, last = self._pending.popleft()
            last.synchronize()
            self._host_s += first.elapsed_time(last) / 1000
