"""Batches that are loaded by threads while the device computes, as many ahead as it takes for the device not to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

LEAST, MOST = 2, 8  # batches ahead
HELD_BYTES = 2**29  # of pixels in batches ahead, beyond LEAST


def loaded(
    load: Callable[[int], T], batches: Sequence[Sequence[int]], workers: int, size: Callable[[T], int], waited: Callable[[float], None]
) -> Iterator[list[T]]:
    """What `load` gives for the indices of each batch, in order: two batches at a time, and one more after each wait.

    size: bytes of one. waited: is told the seconds of each wait. Errors: those of `load`, when their batch is due.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        ahead: deque[list[Future[T]]] = deque()
        depth, started = LEAST, 0
        try:
            while started < len(batches) or ahead:
                while len(ahead) < depth and started < len(batches):
                    ahead.append([pool.submit(load, index) for index in batches[started]])
                    started += 1
                late = not all(future.done() for future in ahead[0])
                start = time.perf_counter()
                found = [future.result() for future in ahead.popleft()]
                if late:
                    waited(time.perf_counter() - start)
                    held = max(1, sum(map(size, found)))
                    depth = min(depth + 1, max(LEAST, min(MOST, HELD_BYTES // held)))
                yield found
        finally:
            for futures in ahead:
                for future in futures:
                    future.cancel()
