"""Parts of a source hold all of it, in order, whatever the sizes of its files."""

from __future__ import annotations

import pytest

from tips_bench.corpus.sources.base import batched, ranges


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("counts", [[], [4], [0, 3, 0, 7, 1], [2, 2, 2]])
def test_parts_are_of_one_size_but_the_last_and_leave_nothing_out(counts: list[int], size: int) -> None:
    named = [(f"{number}", count) for number, count in enumerate(counts)]
    parts = [[(name, row) for name, first, behind in part for row in range(first, behind)] for part in ranges(named, size)]
    assert [row for part in parts for row in part] == [(name, row) for name, count in named for row in range(count)]
    assert all(len(part) == size for part in parts[:-1]) and all(0 < len(part) <= size for part in parts[-1:])
    assert parts == list(batched([(name, row) for name, count in named for row in range(count)], size))
