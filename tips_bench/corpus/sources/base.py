"""A sample that was found in a source, and what every kind of source does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tips_bench.corpus.store import Step
from tips_bench.errors import UserError
from tips_bench.training.shard_files import is_remote

LOOKED_AT = 100  # samples
OTHERS = ("gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2")  # images that training does not read
ItemT = TypeVar("ItemT")
Refuse = Callable[[dict[str, Any]], str | None]
"""What is said of a sample -> why it goes before its image is fetched or read; None where it does not."""


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
    """read: "module:function" of (refuse, **manner, **part) -> the samples of a part, as an iterator of Found.

    manner: how parts are read, as plain data. It decides no sample, so it may change when a step is taken up.
    options: of `corpus fetch`, those that say something about this source, beside --split.
    """

    read: str
    manner: dict[str, Any]
    options: tuple[str, ...]

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


def full_name(path: Path) -> str:
    """The path or the URL of a file, the same wherever a command is given."""
    return str(path if is_remote(path) else path.absolute())


def with_caption(said: dict[str, Any], key: str | None) -> dict[str, Any]:
    """What is said of a sample, with the text under a key of it as the web caption, and none where it has no such key. None: as it is."""
    if key is None:
        return said
    others = {name: value for name, value in said.items() if name not in ("web", key)}
    return others | {"web": [] if said.get(key) is None else said[key]}


def check_caption(read: Callable[..., Iterator[Found]], parts: Iterable[dict[str, Any]], key: str | None, where: object) -> None:
    """Errors: none of the first samples has the key of captions. read, parts: of a source; None as key: nothing is read."""
    if key is None:
        return
    found = (one for part in parts for one in read(lambda _: None, **part))
    some = [one.said for one in itertools.islice(found, LOOKED_AT) if not one.fault]
    if some and not any(said["web"] for said in some):
        names = ", ".join(name for name in some[0] if name != "web")
        has = f"The first one has: {names[:300]}." if names else "Nothing is said of the first one."
        raise UserError(f"not one of the first {len(some)} samples has a caption {key!r}", where=where, fix=has)
