"""What lets a GPU work on while the processor prepares what comes next: copies to it, and checks of what it finds.

Any number that the processor reads from a GPU makes it wait until all that the GPU was asked for is done. On a CPU nothing waits, and
all of this does the same at once.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tips_bench.errors import UserError

BEHIND = 2  # a step of a training has one check, or two


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """The tensor on a device. It goes to a GPU from pinned memory in a stream of its own, beside what the GPU computes.

    dtype: None = its own. What is computed from it afterwards waits for it; the processor does not.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device, dtype or tensor.dtype)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    copying, computing = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copying):
        found = pinned.to(device, dtype or tensor.dtype, non_blocking=True)
    computing.wait_stream(copying)
    found.record_stream(computing)  # its memory is not given to the next copy before it was used
    return found


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


class LateChecks:
    """Whether what a device computed is as it should be. Each answer is read at once, or, inside `late`, BEHIND checks later."""

    def __init__(self) -> None:
        self._is_late = False
        self._open: deque[tuple[Callable[[], bool], Callable[[], UserError]]] = deque()

    def check(self, good: Tensor, error: Callable[[], UserError]) -> None:
        """good: one truth value on any device. error: makes what is raised if it is false. Errors: of this check or of an earlier one."""
        if self._is_late:
            self._open.append((_asked(good), error))
            self.settle(left=BEHIND)
        elif not good:
            raise error()

    def settle(self, left: int = 0) -> None:
        """Read all answers but the last few. Errors: of the first check that failed."""
        while len(self._open) > left:
            answer, error = self._open.popleft()
            if not answer():
                self._open.clear()
                raise error()

    @contextmanager
    def late(self) -> Iterator[None]:
        """Inside, the processor goes on before the answer is known; at the end it waits. Whoever keeps a result inside settles first."""
        self._is_late = True
        try:
            yield
            self.settle()
        finally:
            self._is_late = False
            self._open.clear()


def _asked(good: Tensor) -> Callable[[], bool]:
    """Reads the answer, which is sent to the processor as soon as it is known."""
    if good.device.type != "cuda":
        return lambda: bool(good)
    answer, known = good.to("cpu", non_blocking=True), torch.cuda.Event()
    known.record(torch.cuda.current_stream(good.device))

    def read() -> bool:
        known.synchronize()
        return bool(answer)

    return read
