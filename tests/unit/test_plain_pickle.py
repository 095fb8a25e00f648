"""Pickles of plain data are read as pickle reads them, and whatever would run something is refused before it runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.data.plain_pickle import MAX_BYTES, MAX_VALUES, read_plain_pickle
from tips_bench.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@given(VALUES, st.integers(0, 5))
@settings(max_examples=60)
def test_plain_data_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    path = tmp_path_factory.mktemp("pickle") / "a.pkl"
    assert read_plain_pickle(write(path, pickle.dumps(value, protocol))) == value


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_and_numbers_of_numpy_become_lists_and_numbers(tmp_path: Path, protocol: int) -> None:
    value = {
        "whole": np.arange(6, dtype=np.int64).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i4"),
        "text": np.array(["a", "bc"]),
        "objects": np.array(["a", [1, 2]], dtype=object),
        "number": np.float32(0.5),
        "empty": np.array([], dtype=np.int32),
    }
    assert read_plain_pickle(write(tmp_path / "a.pkl", pickle.dumps(value, protocol))) == {
        "whole": [[0, 1, 2], [3, 4, 5]],
        "columns": [[0, 1, 2], [3, 4, 5]],
        "swapped": [0, 1, 2],
        "text": ["a", "bc"],
        "objects": ["a", [1, 2]],
        "number": 0.5,
        "empty": [],
    }


class Runs:
    """A pickle of it makes a folder where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    for protocol in range(6):
        path = write(tmp_path / "a.pkl", pickle.dumps({"imlist": Runs(tmp_path / "made")}, protocol))
        with pytest.raises(UserError, match=r"mkdir|opcode"):
            read_plain_pickle(path)
    assert not (tmp_path / "made").exists()


HOSTILE = {
    "eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "an instance in the old way": b"(S'x'\nios\nsystem\n.",
    "a class and its state": b"cnumpy\nndarray\n(I1\n(I3\ntcnumpy\ndtype\n(S'i8'\ntRI00\nS''\ntb.",
    "an array of more than its bytes": pickle.dumps(np.arange(4)).replace(b"K\x04\x85", b"K\x7f\x85"),
    "a place that asks for memory": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
    "a name outside the file": b"Pabc\n.",
    "cut short": pickle.dumps({"a": list(range(99))})[:-20],
    "nothing": b"",
    "text": b"<html>not found</html>",
    "a set": pickle.dumps({1, 2}, 4),
    "an array of records": pickle.dumps(np.zeros(2, "i4,f4"), 2),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_plain_data_is_an_error_of_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a pickle of plain data"):
        read_plain_pickle(write(tmp_path / "a.pkl", HOSTILE[name]))


def test_one_list_named_many_times_does_not_fill_the_memory(tmp_path: Path) -> None:
    value: list = [0] * 64
    for _ in range(8):
        value = [value] * 64
    assert MAX_VALUES < 64**9
    with pytest.raises(UserError, match="more than"):
        read_plain_pickle(write(tmp_path / "a.pkl", pickle.dumps(value)))


def test_a_missing_file_and_a_huge_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_plain_pickle(tmp_path / "none.pkl")
    with (tmp_path / "huge.pkl").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="more than"):
        read_plain_pickle(tmp_path / "huge.pkl")
