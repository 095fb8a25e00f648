"""Arrays that are taken from a file where it lies are those that were written, and a broken file is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tips_bench.errors import UserError
from tips_bench.npz import map_npz, save_npz

ARRAYS: dict[str, np.ndarray] = {
    "odd": np.arange(7, dtype=np.uint8),  # what lies behind it begins anywhere
    "rows": np.arange(24, dtype=np.uint64).reshape(4, 3, 2),
    "by_columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "keys": np.array(["a", "äöü"]),
    "empty": np.zeros((0, 2), np.int64),
    "scalar": np.array(3.5),
}


def test_mapped_arrays_are_those_that_were_written(tmp_path: Path) -> None:
    save_npz(tmp_path / "some.npz", **ARRAYS)
    found = map_npz(tmp_path / "some.npz", "thing", list(ARRAYS))
    for name, expected in ARRAYS.items():
        assert found[name].dtype == expected.dtype and found[name].shape == expected.shape, name
        assert (found[name] == expected).all(), name


@pytest.mark.parametrize("spoil", [lambda whole: whole[:100], lambda whole: b"", lambda whole: whole.replace(b"\x93NUMPY", b"\x93BUMPY")])
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    save_npz(tmp_path / "some.npz", **ARRAYS)
    (tmp_path / "some.npz").write_bytes(spoil((tmp_path / "some.npz").read_bytes()))
    for file, name in (("some.npz", "rows"), ("none.npz", "rows")):
        with pytest.raises(UserError, match="not a saved thing, or a broken one"):
            map_npz(tmp_path / file, "thing", [name])


def test_an_array_that_is_not_there_is_said(tmp_path: Path) -> None:
    save_npz(tmp_path / "some.npz", **ARRAYS)
    with pytest.raises(UserError, match="not a saved thing, or a broken one"):
        map_npz(tmp_path / "some.npz", "thing", ["columns"])
