"""A sample that was found in a source, and what every kind of source does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tips_bench.corpus.store import Step

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Found:
    """name: of the sample, for people. image: the bytes of its file. said: its captions and what else is known.

    fault: why it cannot be used, the same words for all with the same reason; detail: what was said of this one.
    """

    name: str
    image: bytes = b""
    said: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    detail: str = ""


class Source(Protocol):
    """read: "module:function" of (**part) -> the samples of a part, as an iterator of Found."""

    read: str

    def identity(self) -> dict[str, Any]:
        """What decides which samples come: the kind, names, sizes and hashes."""
        ...

    def steps(self) -> list[Step]:
        """What was done to the samples before, where that is known."""
        ...

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """All samples as parts of `size` samples and a last one, which are plain data. The same source gives the same parts."""
        ...


def batched(items: Iterable[ItemT], size: int) -> Iterator[list[ItemT]]:
    """The items in lists of `size`, the last of what is left."""
    left = iter(items)
    while some := list(itertools.islice(left, size)):
        yield some


def ranges(counts: Iterable[tuple[str, int]], size: int) -> Iterator[list[tuple[str, int, int]]]:
    """(name, first, behind) of pieces of counted things, in lists that hold `size` of their items, the last what is left."""
    part: list[tuple[str, int, int]] = []
    held = 0
    for name, count in counts:
        first = 0
        while first < count:
            behind = min(count, first + size - held)
            part.append((name, first, behind))
            held, first = held + behind - first, behind
            if held == size:
                yield part
                part, held = [], 0
    if part:
        yield part
