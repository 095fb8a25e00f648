"""Shards in object storage: how much is read of them, and what happens when reads fail."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile

from tests.helpers.memory_storage import Storage
from tests.helpers.shards import small_recipe, write_shards
from tips_bench.corpus.store import Sample
from tips_bench.corpus.store import write_shard as write_own
from tips_bench.errors import UserError
from tips_bench.training import shard_files
from tips_bench.training.batches import TrainingData
from tips_bench.training.shard_index import file_beside, load_index
from tips_bench.training.shards import Cursor, ShardOrder, expand_shards
from tips_bench.training.sources import find_shards, shard_order

START = Cursor()


class _Ranges(AbstractBufferedFile):
    """A file in `Counted`, of which ranges are read."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


class Counted(Storage):
    """Object storage that counts the bytes that are read of it."""

    protocol = "counted"
    store: dict[str, Any] = {}
    read: Counter[str] = Counter()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        data = self.store[self._strip_protocol(path)].getvalue()[start:end] if self.exists(path) else None
        if data is None:
            raise FileNotFoundError(path)
        self.read["bytes"] += len(data)
        return bytes(data)

    def open(self, path: str, mode: str = "rb", block_size: int = 5 << 20, cache_type: str = "readahead", **kwargs: Any) -> Any:
        if mode != "rb":
            return super().open(path, mode, **kwargs)
        return _Ranges(self, self._strip_protocol(path), mode, block_size, cache_type=cache_type, size=self.size(path))


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    fsspec.register_implementation("counted", Counted, clobber=True)
    storage = Counted()
    storage.store.clear()
    storage.read.clear()
    return storage


def big_corpus(folder: Path, storage: Counted, shards: int, samples: int, *, indexes: bool) -> str:
    """A corpus of samples of 50 kB, as at 224 px, in object storage. indexes: with those that were written beside its shards."""
    for shard in range(shards):
        path = folder / f"{shard}.tar"
        said = {"web": "a room", "synthetic": ["a room with a sofa"]}
        write_own(path, [Sample(f"{samples * shard + n:06d}", bytes(50_000), "jpg", said) for n in range(samples)])
        for file in [path, file_beside(path)] if indexes else [path]:
            storage.pipe_file(f"/bucket/{file.name}", file.read_bytes())
    return f"counted://bucket/{{0..{shards - 1}}}.tar"


def test_a_reader_of_a_corpus_in_object_storage_reads_its_own_samples_and_little_else_from_the_start(
    tmp_path: Path, counted: Counted
) -> None:
    """One of 256 readers of an epoch. All that it reads counts: the indexes, too, which are there for the first time."""
    order = ShardOrder(expand_shards([big_corpus(tmp_path, counted, 2, 256, indexes=True)]), seed=0, shuffle=128, mix=8)
    draws = [draw for draw in itertools.islice(order.draws(START, 7, 256), 2)]
    for draw in draws:
        assert set(draw.read("jpg", "json")) == {"jpg", "json"}
    needed = sum(size for _, size in (draw.span for draw in draws))  # members with their headers in the archive
    assert counted.read["bytes"] / needed < 1.05, counted.read["bytes"] / needed
    before = counted.read["bytes"]
    assert load_index(order.paths[0]).samples == 256 and counted.read["bytes"] == before, "kept for the other processes"


def test_an_index_of_a_foreign_shard_in_object_storage_is_made_without_reading_its_images(tmp_path: Path, counted: Counted) -> None:
    path = expand_shards([big_corpus(tmp_path, counted, 1, 64, indexes=False)])[0]
    assert load_index(path).starts_N1.tolist() == load_index(tmp_path / "0.tar").starts_N1.tolist()
    share = counted.read["bytes"] / path.stat().st_size
    assert share < 0.1, share


def test_what_one_rank_finds_out_about_shards_need_not_be_asked_for_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe(big_corpus(tmp_path, counted, 3, 4, indexes=True), "method.contrastive=null", "method.teacher.start=0")
    found, first = find_shards(recipe), shard_order(recipe)
    assert first.samples == 12 and all(size == path.stat().st_size for (_, size, _), path in zip(found[0], first.paths, strict=True))
    (tmp_path / "cache").rename(tmp_path / "of another machine")
    asked, info = list[str](), Counted.info
    monkeypatch.setattr(Counted, "info", lambda self, path, **kwargs: asked.append(path) or info(self, path, **kwargs))
    for method in ("ls", "find", "glob"):
        monkeypatch.setattr(Counted, method, lambda *args, **kwargs: pytest.fail("it lists the bucket"))
    data = TrainingData(recipe, None, rank=1, world=2, found=found)
    assert data.order.identity == first.identity
    assert {Path(path).name for path in asked} == {"0.tar.index", "1.tar.index", "2.tar.index"}, "it asks for no shard"


class Unsteady(Storage):
    """Object storage whose reads fail twice of three times."""

    protocol = "unsteady"
    store: dict[str, Any] = {}
    tries: Counter[str] = Counter()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        self.tries["all"] += 1
        if self.tries["all"] % 3:
            raise OSError(500, "the server is busy")
        return bytes(super().cat_file(path, start=start, end=end, **kwargs))


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shard_files, "FIRST_WAIT_S", 0.0)
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    storage = Unsteady()
    storage.store.clear()
    write_shards(tmp_path, [4, 3])
    for name in ("train-000.tar", "train-001.tar"):
        storage.pipe_file(f"/bucket/{name}", (tmp_path / name).read_bytes())
    return "unsteady://bucket/train-{000..001}.tar"


def test_shards_in_object_storage_are_read_in_the_same_order_though_reads_fail(bucket: str, tmp_path: Path) -> None:
    local = ShardOrder(expand_shards([f"{tmp_path}/train-{{000..001}}.tar"]), seed=0, shuffle=4, mix=2)
    remote = ShardOrder(expand_shards([bucket]), seed=0, shuffle=4, mix=2)
    for one, other in zip(itertools.islice(remote.draws(START), 7), itertools.islice(local.draws(START), 7), strict=True):
        assert one.entry.key == other.entry.key and one.read("jpg", "json") == other.read("jpg", "json")
    assert remote.identity == local.identity


def test_waits_last_minutes_and_differ_and_are_told_of(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def never(*args: Any, **kwargs: Any) -> bytes:
        raise OSError(503, "the server is away")

    monkeypatch.setattr(shard_files, "FIRST_WAIT_S", 0.5)
    draw = next(ShardOrder(expand_shards([bucket]), seed=0, shuffle=4).draws(START))
    monkeypatch.setattr(Unsteady, "cat_file", never)
    waits: list[list[float]] = []
    for _ in range(2):
        waits.append([])
        monkeypatch.setattr(shard_files.time, "sleep", waits[-1].append)
        with pytest.raises(UserError, match="the server is away"):
            draw.files.read(draw.path, *draw.span)
    assert waits[0] != waits[1] and all(120 < sum(some) < 400 and max(some) <= 45 for some in waits)
    assert caplog.text.count("it cannot be read (the server is away), and is tried again") == 2


def test_credentials_that_are_missing_are_told_of_at_once(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        """As botocore's."""

    def refused(*args: Any, **kwargs: Any) -> bytes:
        raise NoCredentialsError("Unable to locate credentials")

    draw = next(ShardOrder(expand_shards([bucket]), seed=0, shuffle=4).draws(START))
    monkeypatch.setattr(Unsteady, "cat_file", refused)
    monkeypatch.setattr(shard_files.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(UserError, match="Unable to locate credentials"):
        draw.read("jpg")


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_a_shard_that_breaks_during_a_run_is_skipped_if_so_wished(tmp_path: Path, how: str) -> None:
    pattern = write_shards(tmp_path, [6, 6, 6])
    small = ("method.contrastive=null", "method.teacher.start=0", "data.shuffle=18")
    stop = TrainingData(small_recipe(pattern, *small), None)
    skip = TrainingData(small_recipe(pattern, *small, "data.broken_shards=skip"), None)
    assert stop.order.identity == skip.order.identity  # their indexes are there
    victim = tmp_path / "train-001.tar"
    data = victim.read_bytes()
    if how == "gone":
        victim.unlink()
    else:
        victim.write_bytes(data[:1024] if how == "cut" else b"x" * len(data))
    with pytest.raises(UserError, match=r"train-001\.tar: the shard (was changed|cannot be read)"):
        list(itertools.islice(stop.batches(stop.recipe.stages[0]), 3))
    batches = list(itertools.islice(skip.batches(skip.recipe.stages[0]), 2))
    assert not [name for batch in batches for name in batch.names if "train-001" in name]
    assert skip.report.faults == {"broken shard": skip.report.skipped} and skip.report.skipped >= 1
    assert skip.report.examples == {"broken shard": "train-001.tar"}


def test_storage_that_stays_away_is_told_of_after_some_tries(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> bytes:
        raise OSError(503, "the server is away")

    order = ShardOrder(expand_shards([bucket]), seed=0, shuffle=4)
    draw = next(order.draws(START))
    monkeypatch.setattr(Unsteady, "cat_file", never)
    with pytest.raises(UserError, match=r"train-00\d\.tar: the shard cannot be read \(the server is away\)"):
        draw.read("jpg")


@pytest.mark.parametrize("address", ["nowhere://bucket/a.tar", "s3://bucket/a.tar", "s3://bucket/*.tar"])
def test_an_address_that_nothing_reads_is_told_of(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as where it is not installed
    with pytest.raises(UserError, match="what reads this address is not installed"):
        expand_shards([address])


def test_an_error_of_a_client_of_storage_is_a_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> bytes:
        raise RuntimeError("no credentials")  # not an OSError

    draw = next(ShardOrder(expand_shards([bucket]), seed=0, shuffle=4).draws(START))
    monkeypatch.setattr(Unsteady, "cat_file", refused)
    with pytest.raises(UserError, match=r"the shard cannot be read \(no credentials\)"):
        draw.read("jpg")
