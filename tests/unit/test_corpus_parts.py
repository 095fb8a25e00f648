"""Parts of a source hold all of it, in order, whatever the sizes of its files; processes share a rate."""

from __future__ import annotations

import pytest

from tips_bench.corpus.caption import shared_pace
from tips_bench.corpus.captioners.base import Pace
from tips_bench.corpus.sources.base import batched, ranges
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("counts", [[], [4], [0, 3, 0, 7, 1], [2, 2, 2]])
def test_parts_are_of_one_size_but_the_last_and_leave_nothing_out(counts: list[int], size: int) -> None:
    named = [(f"{number}", count) for number, count in enumerate(counts)]
    parts = [[(name, row) for name, first, behind in part for row in range(first, behind)] for part in ranges(named, size)]
    assert [row for part in parts for row in part] == [(name, row) for name, count in named for row in range(count)]
    assert all(len(part) == size for part in parts[:-1]) and all(0 < len(part) <= size for part in parts[-1:])
    assert parts == list(batched([(name, row) for name, count in named for row in range(count)], size))


@pytest.mark.parametrize(
    ("chosen", "each"),
    [(None, 60), (Chosen("local", {}, 4), 15), (Chosen("slurm", {"array_parallelism": 120}), 0.5)],
    ids=["here", "local", "slurm"],
)
def test_a_rate_is_shared_by_all_processes(chosen: Chosen | None, each: float) -> None:
    assert shared_pace(Pace(per_minute=60), chosen) == Pace(per_minute=each)
    assert shared_pace(Pace(), chosen) == Pace()


@pytest.mark.parametrize("chosen", [Chosen("slurm", {}), Chosen("ray", {})], ids=["slurm", "ray"])
def test_a_rate_of_an_unknown_number_of_processes_is_refused(chosen: Chosen) -> None:
    with pytest.raises(UserError, match=r"--per-minute: a limit needs to know how many processes"):
        shared_pace(Pace(per_minute=60), chosen)
    assert shared_pace(Pace(), chosen) == Pace()
