"""Runs that die in the middle: of their encoder, or at a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tips_bench import files
from tips_bench.features.extract import Extractor


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing can catch a kill."""


def dying(method: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """The method, which raises Killed once it was called so often."""
    left = [calls]

    def call(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return method(*arguments)

    return call


@contextmanager
def killed_after(calls: int, method: str = "timed") -> Iterator[None]:
    """What the block runs must die of an encoder that answers so many calls of this method of the extractor."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Extractor, method, dying(getattr(Extractor, method), calls))
        yield


def kills_at_each_file(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often `work` was killed before it ended: each time before the first, the second, ... file appears, or right after it did."""
    left, real, kills = [0], os.replace, 0

    def replace(*paths: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        real(*paths)
        if left[0] == -1:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace)
        for left[0] in range(1, 200):
            try:
                work()
            except Killed:
                kills += 1
                continue
            return kills
    raise AssertionError(f"killed {kills} times, it never ended")
