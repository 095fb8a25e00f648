"""features/store.py: what a kill, a changed layout, a full disk or another process leaves, and that it is never taken for finished work."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.rank_threads import by_ranks
from tips_bench.errors import UserError
from tips_bench.features import store as store_module
from tips_bench.features.cache import DISK_TYPES, FeatureCache, to_disk
from tips_bench.features.store import FORGOTTEN, ResumableArray
from tips_bench.ranks import World

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


def missing(folder: Path) -> list[int]:
    store = ResumableArray(folder, ROWS, LAYOUT)
    store.close()
    return store.missing()


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"part-*.{kind}"))


def killed(folder: Path, code: str) -> None:
    """Run `code` with a ResumableArray `store` in another process that ends by SIGKILL."""
    head = (
        "import os, sys, numpy as np; from pathlib import Path; from tips_bench.features.store import ResumableArray\n"
        f"store = ResumableArray(Path(sys.argv[1]), {ROWS}, {LAYOUT!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", head + code, str(folder)], env=environment, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()


def test_what_was_written_is_read_back_by_item_and_by_array(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", 2, 0, 1)
    for _ in range(2):
        for item in range(3):
            for name, expected in values(item).items():
                assert np.array_equal(store.read(item, name), expected)
        store.join()
    assert np.array_equal(store.arrays["labels"], np.repeat([0, 1, 2], ROWS))
    assert len(files(tmp_path / "s", "index")) == 1 and not files(tmp_path / "s", "writing")
    store.arrays["labels"][0] = 7
    assert missing(tmp_path / "s") == [], "a caller's change stays in its memory"


def test_items_in_their_order_are_mapped_as_they_were_written(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", 0, 1, 2)
    before = files(tmp_path / "s", "features.bin")
    store.join()
    assert files(tmp_path / "s", "features.bin") == before


def test_a_store_taken_up_again_lacks_only_what_was_not_written(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 2).close()
    again = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert again.missing() == [1]
    assert np.array_equal(again.read(2, "features"), values(2)["features"])
    with pytest.raises(UserError, match="item 1 is missing"):
        again.read(1, "features")
    with pytest.raises(UserError, match="1 items are missing, the first is 1"):
        again.join()


@pytest.mark.slow
def test_a_kill_after_an_item_keeps_it(tmp_path: Path) -> None:
    killed(tmp_path / "s", "store.write(1, features=np.ones((1, 4), 'float32'), labels=np.ones(1, 'uint8')); os.kill(os.getpid(), 9)")
    store = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert store.missing() == [0, 2]
    assert store.read(1, "features").tolist() == [[1.0] * 4]


@pytest.mark.slow
@pytest.mark.parametrize("writes", [1, 2])
def test_a_kill_amid_the_writes_of_an_item_leaves_it_missing(tmp_path: Path, writes: int) -> None:
    killed(
        tmp_path / "s",
        "store.write(1, features=np.ones((1, 4), 'float32'), labels=np.ones(1, 'uint8'))\n"
        f"real, left = os.write, [{writes}]\n"
        "def dying(descriptor, data):\n"
        "    left[0] -= 1\n"
        "    return real(descriptor, data[:3]) and os.kill(os.getpid(), 9) if left[0] < 0 else real(descriptor, data)\n"
        "os.write = dying\n"
        "store.write(0, features=np.ones((3, 4), 'float32'), labels=np.ones(3, 'uint8'))\n",
    )
    assert missing(tmp_path / "s") == [0, 2]


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
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["header.json"]


def test_a_store_without_its_header_starts_again(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    (tmp_path / "s" / "header.json").unlink()
    assert missing(tmp_path / "s") == [0, 1, 2]


@pytest.mark.parametrize("kind", ["features.bin", "index"])
def test_a_store_of_which_a_file_is_gone_or_cut_off_lacks_what_was_in_it(tmp_path: Path, kind: str) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    (path,) = files(tmp_path / "s", kind)
    os.truncate(path, path.stat().st_size - 8)
    assert missing(tmp_path / "s") == [2]
    path.unlink()
    assert missing(tmp_path / "s") == [0, 1, 2]


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
        patch.setattr(shutil, "rmtree", lambda folder, **_: files(folder, "labels.bin")[0].unlink())
        store.delete()
    assert files(tmp_path / "s", "index") and missing(tmp_path / "s") == [0, 1, 2]


class Usage(NamedTuple):
    free: int


def test_a_disk_without_the_space_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: Usage(9 * 17 - 1))
        with pytest.raises(UserError, match=r"needs 0\.00 GB, and the disk has 0\.00 GB free\. Free space"):
            ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert not (tmp_path / "s").exists()
    assert missing(tmp_path / "s") == [0, 1, 2], "and once there is space, it is created"


def test_a_disk_that_fills_up_is_one_sentence_and_the_item_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s", 0)

    real, pieces = os.write, [7]

    def full(descriptor: int, data: Any) -> int:
        if not pieces:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: pieces.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError, match="cannot write: No space left on device"):
            store.write(1, **values(1))
    assert store.missing() == [1, 2]
    store.write(2, **values(2))
    store.write(1, **values(1))
    assert np.array_equal(store.join().arrays["labels"], np.repeat([0, 1, 2], ROWS)), "and once there is space, it goes on"


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_disk_that_is_full_from_the_first_item_on_is_one_sentence_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    store, real, left = ResumableArray(tmp_path / "s", ROWS, LAYOUT), os.write, [allowed]

    def full(descriptor: int, data: memoryview) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match="cannot write: File too large"):
        store.write(0, **values(0))
    store.close()
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["header.json"]


def test_nothing_to_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to store"):
        ResumableArray(tmp_path / "s", [], LAYOUT)


def test_two_processes_fill_one_store_and_each_sees_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "s", 2), filled(tmp_path / "s", 1)
    assert other.missing() == [0], "the other came later and saw what was there"
    other.write(0, **values(0))
    other.close()
    one.join()
    assert np.array_equal(one.arrays["labels"], np.repeat([0, 1, 2], ROWS))
    assert missing(tmp_path / "s") == []


def test_a_part_that_is_still_written_stays_when_the_parts_are_joined(tmp_path: Path) -> None:
    other, one = filled(tmp_path / "s", 2), filled(tmp_path / "s", 1, 0)
    one.join()
    assert len(files(tmp_path / "s", "writing")) == 1 and len(files(tmp_path / "s", "index")) == 1
    other.join()
    assert np.array_equal(other.arrays["features"], one.arrays["features"])


def test_a_part_that_nobody_writes_any_more_goes_when_the_parts_are_joined(tmp_path: Path) -> None:
    filled(tmp_path / "s", 2)  # never closed, as after a kill
    (path,) = files(tmp_path / "s", "writing")
    long_ago = time.time() - FORGOTTEN - 1
    os.utime(path, (long_ago, long_ago))
    filled(tmp_path / "s", 1, 0).join()
    assert not files(tmp_path / "s", "writing") and len(files(tmp_path / "s", "features.bin")) == 1


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
def test_any_order_and_any_number_of_writers_gives_the_same_arrays(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("s") / "s"
    order = data.draw(st.permutations(range(3)))
    writers = [data.draw(st.integers(0, 2)) for _ in order]
    stores = [ResumableArray(folder, ROWS, LAYOUT) for _ in range(3)]
    for item, writer in zip(order, writers, strict=True):
        stores[writer].write(item, **values(item))
    for store in stores:
        store.join()
        assert np.array_equal(store.arrays["features"], np.concatenate([values(i)["features"] for i in range(3)]))
    for store in stores:
        store.close()


@pytest.mark.parametrize("dtype", list(DISK_TYPES))
def test_features_go_to_disk_without_loss(dtype: torch.dtype) -> None:
    features = torch.tensor([0.1, -1e30, float("inf"), 3.0]).to(dtype)
    stored = to_disk(features)
    assert stored.dtype == DISK_TYPES[dtype]
    assert torch.equal(torch.from_numpy(stored.copy()).view(dtype), features)


@pytest.mark.parametrize("kind", ["features.bin", "labels.bin", "index"])
def test_an_item_whose_bytes_are_not_what_was_written_is_missing(tmp_path: Path, kind: str) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    (path,) = files(tmp_path / "s", kind)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = ResumableArray(tmp_path / "s", ROWS, LAYOUT)
    assert again.missing() == [2]
    again.write(2, **values(2))
    again.close()
    assert missing(tmp_path / "s") == []


def test_a_power_cut_that_leaves_zeros_leaves_items_missing(tmp_path: Path) -> None:
    filled(tmp_path / "s", 0, 1, 2).close()
    (path,) = files(tmp_path / "s", "features.bin")
    path.write_bytes(path.read_bytes()[: 4 * 4 * 4] + bytes(path.stat().st_size - 4 * 4 * 4))
    assert missing(tmp_path / "s") == [2]


def by_three(work: Callable[[ResumableArray], Any], folder: Path) -> list[Any]:
    """What `work` gives on each of three ranks, of which every one has written its item."""

    def one(world: World) -> Any:
        store = ResumableArray(folder, ROWS, LAYOUT, world=world)
        store.write(world.rank, **values(world.rank))
        return work(store.join())

    return by_ranks(3, one)


def test_no_part_is_removed_while_a_slow_rank_still_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look, names, thread = ResumableArray._look, store_module._part_names, threading.local()

    def told_apart(store: ResumableArray) -> None:
        thread.is_slow = store.world.rank == 2
        look(store)

    def slow(folder: Path) -> list[str]:
        found = names(folder)
        if thread.is_slow:
            time.sleep(0.2)  # the parts are listed, and not read yet
        return found

    monkeypatch.setattr(ResumableArray, "_look", told_apart)
    monkeypatch.setattr(store_module, "_part_names", slow)
    found = by_three(lambda store: np.array(store.arrays["labels"]), tmp_path / "store")
    assert all(np.array_equal(labels, np.repeat([0, 1, 2], ROWS)) for labels in found)


def test_a_store_is_there_until_its_slowest_rank_lets_go_of_it(tmp_path: Path) -> None:
    def read(store: ResumableArray) -> bool:
        if store.world.rank == 2:
            time.sleep(0.2)
        there = len(files(tmp_path / "store", "labels.bin")) == 1
        store.delete()
        return there

    assert by_three(read, tmp_path / "store") == [True] * 3 and not (tmp_path / "store").exists()


def test_two_runs_that_begin_a_store_at_the_same_moment_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=20)

    def meet(folder: Path) -> int:
        meeting.wait()  # neither has begun the store, and both are about to
        return 1 << 40

    monkeypatch.setattr("tips_bench.features.store.free_bytes", meet)
    with ThreadPoolExecutor(2) as runs:
        first, second = runs.map(lambda _: ResumableArray(tmp_path / "store", ROWS, LAYOUT), range(2))
    first.write(0, **values(0))
    for item in (1, 2):
        second.write(item, **values(item))
    first.close()
    second.close()
    assert missing(tmp_path / "store") == [] and [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_a_killed_removal_left_is_no_store(tmp_path: Path) -> None:
    filled(tmp_path / "store", 0, 1, 2).close()
    (tmp_path / "store" / "header.json").unlink()
    assert missing(tmp_path / "store") == [0, 1, 2]
