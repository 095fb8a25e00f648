"""Which training samples are held out: whole groups, some and never all of them, by a hash of their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tips_bench.data.validation_split import hold_out
from tips_bench.errors import UserError


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.01, 0.99), st.one_of(st.none(), st.integers(1, 5)))
def test_groups_are_held_out_whole_and_something_is_kept_and_held(numbers: list[int], fraction: float, limit: int | None) -> None:
    groups, ids = [f"room {number}" for number in numbers], [f"view {place}" for place in range(len(numbers))]
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="of one group cannot be split"):
            hold_out(ids, groups, fraction, limit)
        return
    kept, held = hold_out(ids, groups, fraction, limit)
    assert kept and held and not {groups[index] for index in kept} & {groups[index] for index in held}
    assert len(held) <= (limit or len(held)) and (limit is not None or sorted(kept + held) == list(range(len(ids))))
    order = list(reversed(range(len(ids))))
    again = hold_out([ids[index] for index in order], [groups[index] for index in order], fraction, limit)
    assert [sorted(order[place] for place in part) for part in again] == [kept, held]
