"""An encoder that dies in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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
