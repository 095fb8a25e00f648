"""Whether a split on disk has as many samples as its publisher states: a part of a set, or a fake of it, is not the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from tips_bench.cards import DataCard


@dataclass(frozen=True)
class Completeness:
    """found: samples of a split on disk. published: the numbers that its task card states; empty where it states none."""

    split: str
    found: int
    published: tuple[int, ...]

    @property
    def ok(self) -> bool:
        """Whether the number is a published one, or none is known."""
        return not self.published or self.found in self.published

    @property
    def expected(self) -> int | None:
        """The published number that was found, else the first; None where none is known."""
        return None if not self.published else self.found if self.found in self.published else self.published[0]

    def sentence(self) -> str:
        """What a record has to say where the number is not a published one."""
        stated = " or ".join(f"{number:,}" for number in self.published)
        return f"split {self.split} has {self.found:,} samples, not the {stated} of its publisher: these numbers do not compare"


def completeness(data: DataCard, split: str, found: int) -> Completeness:
    """Of a task's data. split: the reader's name of it. found: samples of the whole split, before any limit."""
    stated = data.expected.get(split, [])
    return Completeness(split, found, tuple(stated) if isinstance(stated, list) else (stated,))
