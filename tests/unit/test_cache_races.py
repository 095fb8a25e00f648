"""features/store.py, part_writer.py, upkeep.py: what other processes do between two steps of one breaks nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tips_bench.errors import UserError
from tips_bench.features import part_writer, upkeep
from tips_bench.features import store as store_module
from tips_bench.features.memory import FeatureMemory
from tips_bench.features.parts import ABOUT
from tips_bench.features.store import ResumableArray, _Part
from tips_bench.features.upkeep import parts, prune, verify

ITEMS = 4


def filled(folder: Path) -> ResumableArray:
    store = ResumableArray(folder, [2] * ITEMS, {"rows": ((3,), "float32")})
    for item in store.missing():
        store.write(item, rows=np.full((2, 3), item, np.float32))
    return store


def expect_whole(store: ResumableArray) -> None:
    assert store.arrays["rows"].tolist() == np.repeat(np.arange(ITEMS), 2)[:, None].repeat(3, 1).tolist()


def once(then: Callable[[], Any]) -> Callable[[], None]:
    """A function that does it at its first call only."""
    left = [then]
    return lambda: left and left.pop()() and None


def test_a_part_that_is_closed_while_parts_are_listed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, real = once(filled(tmp_path / "s").close), Path.glob

    def glob(self: Path, pattern: str) -> Iterator[Path]:
        found = list(real(self, pattern))
        close()
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "glob", glob)
        store = filled(tmp_path / "s")
    store.close()
    assert len(list((tmp_path / "s").glob("*.index"))) == 1, "nothing was made twice"


def test_a_part_that_is_closed_while_its_index_is_read_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, real = once(filled(tmp_path / "s").close), Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        try:
            return real(self)
        finally:
            close()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        store = filled(tmp_path / "s")
    store.close()
    assert len(list((tmp_path / "s").glob("*.index"))) == 1, "nothing was made twice"


def test_two_runs_that_join_at_the_same_moment_both_end_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (ResumableArray(tmp_path / "s", [2] * ITEMS, {"rows": ((3,), "float32")}) for _ in range(2))
    names = iter("1243")  # of equal parts that of the last name is read, and the first whole one is mapped: both its own for `one`
    monkeypatch.setattr(store_module.secrets, "token_hex", lambda _: next(names))
    for store in (other, one):
        for item in reversed(store.missing()):
            store.write(item, rows=np.full((2, 3), item, np.float32))
    joined, real = once(other.join), ResumableArray._join_parts

    def join_parts(self: ResumableArray) -> None:
        joined()
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableArray, "_join_parts", join_parts)
        one.join()
    for store in (one, other):
        expect_whole(store)
        store.close()


def test_a_joined_part_that_another_run_replaces_before_it_is_mapped_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, real = filled(tmp_path / "s"), _Part.map

    def replace() -> None:
        for path in (tmp_path / "s").glob("part-*"):
            path.rename(path.with_name(path.name.replace("part-", "part-0")))

    replaced = once(replace)

    def mapped(self: _Part, name: str, rows: int) -> np.memmap:
        replaced()
        return real(self, name, rows)

    with monkeypatch.context() as patch:
        patch.setattr(_Part, "map", mapped)
        store.join()
    expect_whole(store)
    store.close()


def test_a_part_that_is_pruned_while_it_begins_is_given_up_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = FeatureMemory(tmp_path / "newer", torch.float32)
    newer.keep(b"a", "embeddings", torch.ones(1, 3))
    newer.close()
    os.utime(parts(tmp_path)[0].index, (time.time() + 100,) * 2)
    memory, pruned, real = FeatureMemory(tmp_path / "a", torch.float32), once(lambda: prune(tmp_path, 0)), os.open

    def opened(*arguments: Any, **options: Any) -> int:
        try:
            return real(*arguments, **options)
        finally:
            if "part-" in str(arguments[0]):
                pruned()

    monkeypatch.setattr(part_writer.os, "open", opened)
    for key in (b"a", b"b", b"c"):
        memory.keep(key, "embeddings", torch.ones(1, 3))
    memory.close()
    later = FeatureMemory(tmp_path / "a", torch.float32)
    assert later.read(b"b", "embeddings") is not None and later.read(b"c", "embeddings") is not None


def test_a_part_that_is_pruned_while_it_is_verified_is_not_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FeatureMemory(tmp_path / "a", torch.float32)
    memory.keep(b"a", "embeddings", torch.ones(1, 3))
    memory.close()
    (part,), real = parts(tmp_path), upkeep.places

    def places(index: Path) -> Any:
        found = list(real(index))
        prune(tmp_path, 0)
        return found

    monkeypatch.setattr(upkeep, "places", places)
    assert verify(part) == (0, 0)


@pytest.mark.parametrize("about", ["", "{}", '{"type": "no"}', "[]"])
def test_parts_whose_type_nobody_knows_are_one_sentence(tmp_path: Path, about: str) -> None:
    memory = FeatureMemory(tmp_path / "a", torch.float32)
    memory.keep(b"a", "embeddings", torch.ones(1, 3))
    memory.close()
    (tmp_path / "a" / ABOUT).write_text(about)
    with pytest.raises(UserError, match=r"about.json: the type of the features beside it cannot be read. Delete the folder"):
        verify(parts(tmp_path)[0])
