"""features/store.py: what a kill, a changed layout or a full disk leaves behind, and that it is never taken for finished work."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.errors import UserError
from tips_bench.features.cache import DISK_TYPES, FeatureCache, ResumableArray, read_items, to_disk

LAYOUT: dict[str, tuple[tuple[int, ...], str]] = {"features": ((4,), "float32"), "labels": ((), "uint8")}
ROWS = [3, 1, 5]


def values(item: int) -> dict[str, np.ndarray]:
    n = ROWS[item]
    return {"features": np.full((n, 4), item + 0.5, np.float32), "labels": np.full(n, item, np.uint8)}


def filled(folder: Path, *items: int) -> ResumableArray:
    store = ResumableArray(folder, ROWS, LAYOUT)
    for item in items:
        store.write(item, **values(item))
    return store


def killed(folder: Path, code: str) -> None:
    """Run `code` with a ResumableArray `store` in another process that ends by SIGKILL."""
    head = (
        "import os, sys, numpy as np; from pathlib import Path; from tips_bench.features.cache import ResumableArray\n"
        f"store = ResumableArray(Path(sys.argv[1]), {ROWS}, {LAYOUT!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", head + code, str(folder)], env=environment, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()


def test_what_was_written_is_read_back_by_item_and_by_array(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", 0, 1, 2)
    for item in range(3):
        for name, expected in values(item).items():
            assert np.array_equal(store.read(item, name), expected)
    assert np.array_equal(store.arrays["labels"], np.repeat([0, 1, 2], ROWS))


def test_a_store_taken_up_again_lacks_only_what_was_not_written(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 2).close()
    again = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert again.missing() == [1]
    assert np.array_equal(again.read(2, "features"), values(2)["features"])


@pytest.mark.slow
def test_a_kill_after_an_item_keeps_it(tmp_path: Path) -> None:
    killed(tmp_path / "s", "store.write(1, features=np.ones((1, 4), 'float32'), labels=np.ones(1, 'uint8')); os.kill(os.getpid(), 9)")
    store = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert store.missing() == [0, 2]
    assert store.read(1, "features").tolist() == [[1.0] * 4]


@pytest.mark.slow
def test_a_kill_between_the_arrays_of_an_item_leaves_it_missing(tmp_path: Path) -> None:
    killed(
        tmp_path / "s",
        "class Killer(dict):\n"
        "    def __getitem__(self, name):\n"
        "        if name == 'labels': os.kill(os.getpid(), 9)\n"
        "        return np.ones((3, 4), 'float32')\n"
        "for name, array in store.arrays.items(): array[store.rows(0)] = Killer()[name]\n",
    )
    store = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert store.arrays["features"][0, 0] == 1, "the first array of the item had been written"
    assert store.missing() == [0, 1, 2]


def test_an_item_whose_values_do_not_fit_stays_missing(tmp_path: Path) -> None:
    store = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    with pytest.raises(ValueError, match="could not broadcast"):
        store.write(0, features=np.ones((2, 4), np.float32), labels=np.ones(3, np.uint8))
    assert store.missing() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "layout"),
    [
        ([3, 1, 6], LAYOUT),
        ([3, 1], LAYOUT),
        (ROWS, {**LAYOUT, "features": ((5,), "float32")}),
        (ROWS, {**LAYOUT, "features": ((4,), "int16")}),
        (ROWS, {"features": ((4,), "float32")}),
    ],
)
def test_another_layout_empties_the_store(tmp_path: Path, rows: list[int], layout: dict[str, Any]) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    store = ResumableArray(tmp_path / "s", rows, layout)
    assert store.missing() == list(range(len(rows)))
    assert not np.asarray(store.arrays["features"]).any()
    assert {path.stem for path in (tmp_path / "s").iterdir()} == {*layout, "done", "checks", "header"}


def test_a_kill_while_the_store_was_created_starts_it_again(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    (tmp_path / "s" / "header.json").unlink()  # the header is the last file of a creation
    assert ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == [0, 1, 2]


@pytest.mark.parametrize("size", [None, 0, 8])
@pytest.mark.parametrize("name", ["features", "done"])
def test_a_store_of_which_a_file_is_gone_or_cut_off_starts_again(tmp_path: Path, name: str, size: int | None) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    path = tmp_path / "s" / f"{name}.bin"
    path.unlink() if size is None else os.truncate(path, size)
    assert ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == [0, 1, 2]


def test_rows_of_other_content_start_again(tmp_path: Path) -> None:
    for cache in (FeatureCache(tmp_path), FeatureCache(tmp_path / "cache", "weights")):
        store = cache.open("queries", ROWS, LAYOUT, "a", "b")
        for item in range(3):
            store.write(item, **values(item))
        store.close()
        again = cache.open("queries", ROWS, LAYOUT, "a", "b")
        assert again.missing() == []
        again.close()
        assert cache.open("queries", ROWS, LAYOUT, "b", "a").missing() == [0, 1, 2]
        cache.close()


def test_a_kill_while_a_store_is_deleted_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s", 0, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda folder, **_: (folder / "features.bin").unlink())
        store.delete()
    assert (tmp_path / "s" / "done.bin").exists() and ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == [0, 1, 2]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.posix_fallocate
    taken: list[int] = []

    def full(descriptor: int, offset: int, size: int) -> None:
        taken.append(size)
        if len(taken) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, offset, size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(UserError, match=r"cannot reserve 0\.00 GB: cannot write: No space left on device"):
            ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert not (tmp_path / "s").exists()
    assert ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == [0, 1, 2], "and once there is space, it is created"


def test_space_is_reserved_before_the_first_item(tmp_path: Path) -> None:
    ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert (tmp_path / "s" / "features.bin").stat().st_size == sum(ROWS) * 4 * 4
    assert (tmp_path / "s" / "features.bin").stat().st_blocks > 0


def test_nothing_to_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to store"):
        ResumableArray(tmp_path / "s", [], LAYOUT)


def test_two_runs_do_not_share_a_store(tmp_path: Path) -> None:
    first = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    with pytest.raises(UserError, match="another run is using these features"):
        ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    first.close()
    ResumableArray(tmp_path / "s", ROWS, LAYOUT).close()


def test_a_work_shelf_deletes_what_is_finished_and_a_cache_keeps_it(tmp_path: Path) -> None:
    for identity, kept in ((None, False), ("weights and all", True)):
        cache = FeatureCache(tmp_path / str(kept), identity)
        store = cache.open("train", ROWS, LAYOUT)
        cache.finish(store)
        assert store.folder.exists() == kept


def test_a_cache_finds_a_store_by_all_that_shaped_it(tmp_path: Path) -> None:
    def folder(identity: str, *details: object) -> Path:
        store = FeatureCache(tmp_path, identity).open("train", ROWS, LAYOUT, *details)
        store.close()
        return store.folder

    assert folder("a", 1) == folder("a", 1)
    assert len({folder("a", 1), folder("a", 2), folder("b", 1), folder("a")}) == 4


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_order_of_writing_gives_the_same_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(3)))
    folder = tmp_path_factory.mktemp("s") / "s"
    store = filled(folder, *order)
    assert store.missing() == []
    assert np.array_equal(store.arrays["features"], np.concatenate([values(i)["features"] for i in range(3)]))
    store.close()


@pytest.mark.parametrize("dtype", list(DISK_TYPES))
def test_features_go_to_disk_without_loss(dtype: torch.dtype) -> None:
    features = torch.tensor([0.1, -1e30, float("inf"), 3.0]).to(dtype)
    stored = to_disk(features)
    assert stored.dtype == DISK_TYPES[dtype]
    assert torch.equal(torch.from_numpy(stored.copy()).view(dtype), features)


@pytest.mark.parametrize("name", ["features", "labels", "checks"])
def test_an_item_whose_bytes_are_not_what_was_written_is_missing(tmp_path: Path, name: str) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    path = tmp_path / "s" / f"{name}.bin"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert set(read_items(tmp_path / "s", "labels")) == ({0, 1, 2} if name == "features" else {0, 1})
    again = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert again.missing() == [2]
    again.write(2, **values(2))
    again.close()
    assert ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == []


def test_a_power_cut_that_leaves_zeros_leaves_items_missing(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    path = tmp_path / "s" / "features.bin"
    path.write_bytes(path.read_bytes()[: 4 * 4 * 4] + bytes(path.stat().st_size - 4 * 4 * 4))
    assert ResumableArray(tmp_path / "s", ROWS, LAYOUT).missing() == [2]
