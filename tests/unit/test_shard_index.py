"""Indexes of shards: made once, made again when a shard changes, and what a reader needs to read with them."""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.shards import picture, sample, small_recipe, write_shard, write_shards
from tips_bench.corpus.store import Sample
from tips_bench.corpus.store import write_shard as write_own
from tips_bench.errors import UserError
from tips_bench.training.batches import TrainingData
from tips_bench.training.captions import tokenizer_file
from tips_bench.training.chunks import Reader
from tips_bench.training.shard_index import Entry, entries_in, entries_of, file_beside, index_file, load_index
from tips_bench.training.shards import Cursor, ShardOrder, expand_shards

COUNTS = [40, 25, 40, 3]
TOTAL = sum(COUNTS)
START = Cursor()


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"), COUNTS)


def keys(order: ShardOrder, count: int, **share: int) -> list[str]:
    return [draw.entry.key for draw in itertools.islice(order.draws(START, **share), count)]


def test_an_index_is_made_once_and_again_when_its_shard_changes(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(1), sample(2)])
    first = load_index(path)
    file = index_file(path)
    made = file.stat().st_mtime_ns
    assert first.samples == 2 and load_index(path).starts_N1.tolist() == first.starts_N1.tolist()
    assert file.stat().st_mtime_ns == made
    write_shard(path, [sample(number) for number in range(5)])
    assert load_index(path).samples == 5


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]\n", b'{"schema": "tips-bench/shard-index/1"}\n', b"\xff" * 300, b"9" * 5000])
def test_a_broken_index_is_made_again(tmp_path: Path, content: bytes) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(1)])
    index_file(path).parent.mkdir(parents=True, exist_ok=True)
    index_file(path).write_bytes(content)
    assert load_index(path).samples == 1


def test_an_index_that_does_not_fit_its_shard_is_told_of(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(1, txt=b"x" * 700), sample(2)])
    load_index(path)
    data = path.read_bytes()
    path.write_bytes(data[1024:] + data[:1024])
    os.utime(path, (0, 0))  # as if it were older than its index
    with pytest.raises(UserError, match=r"a\.tar: the shard was changed, and its index does not fit.*remove its index"):
        keys(ShardOrder([path], seed=0, shuffle=4), 2)


def test_where_the_cache_takes_no_file_the_headers_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("a file")
    path = write_shard(tmp_path / "a.tar", [sample(1)])
    assert load_index(path).samples == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar", "cache"]


def test_a_broken_shard_is_left_out_if_so_wished_and_the_others_keep_their_samples(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, [4, 4, 4])
    cut = tmp_path / "train-001.tar"
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"train-001\.tar: not a complete.*data\.broken_shards=skip"):
        next(ShardOrder(expand_shards([pattern]), seed=0, shuffle=4).draws(START))
    order = ShardOrder(expand_shards([pattern]), seed=0, shuffle=4, skip_broken=True)
    assert sorted(keys(order, 8)) == [f"{number:06d}" for number in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert [path.name for path in order.broken] == ["train-001.tar"]


def archive(format: int, *members: tuple[str, bytes, bytes, float]) -> bytes:
    """Whole members, without the end of an archive. members: (name, content, kind, time)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, content, kind, time in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.mtime = len(content), kind, time
            tar.addfile(info, io.BytesIO(content))
        end = tar.offset
    return file.getvalue()[:end]


NAMES = st.sampled_from(["a.jpg", "a.json", "b.seg.png", "part/a.JPG", "é.jpg", "none", "x" * 120 + ".jpg", "d/" * 80 + "a.txt"])
KINDS = st.sampled_from([tarfile.REGTYPE] * 5 + [tarfile.DIRTYPE, tarfile.AREGTYPE])
CONTENTS = st.sampled_from([b"", b"x" * 511, b"x" * 512, b"x" * 513])
TIMES = st.sampled_from([0, 12.5])
MEMBERS = st.tuples(NAMES, CONTENTS, KINDS, TIMES).map(lambda one: one if one[2] != tarfile.DIRTYPE else (one[0], b"", *one[2:]))
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
HEADER_BYTES = st.sampled_from([0, 99, 124, 130, 135, 148, 154, 156, 257, 345, 500, 512])


@settings(max_examples=200, deadline=None)
@given(
    format=FORMATS, members=st.lists(MEMBERS, min_size=1, max_size=4), place=HEADER_BYTES, value=st.integers(0, 255), damaged=st.booleans()
)
def test_headers_that_are_read_here_are_read_as_tarfile_does(
    format: int, members: list[tuple[str, bytes, bytes, float]], place: int, value: int, damaged: bool
) -> None:
    data = bytearray(archive(format, *members))
    if damaged and place < len(data):
        data[place] = value

    def found(read: Callable[[], list[Entry]]) -> Any:
        try:
            return [(entry, entry.start) for entry in read()]
        except tarfile.TarError:
            return "broken"

    assert found(lambda: entries_in(bytes(data))) == found(lambda: entries_of(io.BytesIO(data))[0])


@pytest.mark.parametrize("time", [0, 12.5])
def test_samples_of_our_writers_and_of_webdatasets_need_no_tarfile(time: float, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(tarfile.PAX_FORMAT, ("a.jpg", b"picture", tarfile.REGTYPE, time), ("a.json", b"{}", tarfile.REGTYPE, time))
    monkeypatch.setattr(tarfile, "open", None)
    (entry,) = entries_in(data)
    assert entry.key == "a" and [data[start : start + size] for start, size in entry.members.values()] == [b"picture", b"{}"]


@settings(max_examples=15, deadline=None)
@given(mix=st.one_of(st.none(), st.integers(1, 50)), shuffle=st.integers(1, 60), world=st.integers(1, 5), seed=st.integers(0, 3))
def test_each_epoch_has_every_sample_once_however_pieces_are_mixed(
    pattern: str, mix: int | None, shuffle: int, world: int, seed: int
) -> None:
    order = ShardOrder(expand_shards([pattern]), seed=seed, shuffle=shuffle, mix=mix)
    whole = keys(order, 2 * TOTAL)
    for epoch in (whole[:TOTAL], whole[TOTAL:]):
        assert sorted(epoch) == [f"{number:06d}" for number in range(TOTAL)]
    shares = [keys(order, len(whole[rank::world]), rank=rank, world=world) for rank in range(world)]
    assert shares == [whole[rank::world] for rank in range(world)]


def test_a_batch_comes_from_more_shards_if_pieces_are_small(pattern: str) -> None:
    def met(mix: int | None) -> int:
        draws = ShardOrder(expand_shards([pattern]), seed=0, shuffle=24, mix=mix).draws(START)
        return len({draw.path for draw in itertools.islice(draws, 24)})

    assert met(None) == 1 < 3 <= met(2)


@pytest.mark.parametrize("key", ["a", "k" * 150, "ä" * 20], ids=["short", "long", "not ascii"])
def test_a_corpus_writes_the_index_that_would_be_made_of_its_shards(tmp_path: Path, key: str) -> None:
    path = tmp_path / "0.tar"
    write_own(path, [Sample(f"{key}{n}", picture(n), "jpg", {"web": "x" * 400 * n}) for n in range(4)])
    beside = load_index(path)
    assert not index_file(path).exists(), "it was read from beside the shard"
    file_beside(path).unlink()
    made = load_index(path)
    assert beside.starts_N1.tolist() == made.starts_N1.tolist() and (beside.samples, beside.shard_bytes) == (4, made.shard_bytes)


def test_an_index_beside_a_shard_that_was_changed_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_own(path, [Sample("a", picture(0), "jpg", {}), Sample("b", picture(1), "jpg", {})])
    write_shard(path, [sample(number) for number in range(5)])
    assert load_index(path).samples == 5


def test_an_index_beside_that_is_older_than_its_shard_counts_when_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    write_own(path, [Sample("a", picture(0), "jpg", {})])
    os.utime(file_beside(path), (1, 1))
    assert load_index(path).samples == 1 and index_file(path).exists(), "it was made of the headers"
    index_file(path).unlink()
    os.utime(file_beside(path))
    assert load_index(path).samples == 1 and not index_file(path).exists()


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_another_number_of_ranks_shares_what_is_left_so_that_each_sample_comes_once(tmp_path: Path, before: int, after: int) -> None:
    """Some samples are broken, so that ranks have come to different places when they stop."""
    shard = [sample(n, jpg=b"no picture" if n % 5 == 0 else picture(n)) for n in range(36)]
    recipe = small_recipe(str(write_shard(tmp_path / "a.tar", shard)), "data.shuffle=9", "data.mix=3")
    tokenizer = tokenizer_file(recipe, ShardOrder([tmp_path / "a.tar"], seed=0, shuffle=9), tmp_path / "run")
    from tips_bench.models.tokenizer import Tokenizer

    ranks = [TrainingData(recipe, Tokenizer(tokenizer), rank=rank, world=before) for rank in range(before)]
    seen: Counter[int] = Counter()
    for data in ranks:
        batches = data.batches(recipe.stages[0].model_copy(update={"batch": 4 * before}))
        for batch in itertools.islice(batches, 2):
            seen.update(batch.samples_B.tolist())
    places = [data.state_dict() for data in ranks]
    for rank in range(after):
        data = TrainingData(recipe, Tokenizer(tokenizer), rank=rank, world=after, places=places)
        reader = Reader(recipe, recipe.stages[0], data.tokenizer, data.order, data.cursor, rank, after, data.taken)
        for chunk in itertools.islice(reader, 4):
            assert not isinstance(chunk, UserError)
            seen.update(outcome.number for outcome in chunk.outcomes if outcome.whole and outcome.number < 36)
    assert sorted(seen) == [number for number in range(36) if seen[number]] and set(seen.values()) == {1}
    names = {draw.number: draw.entry.key for draw in itertools.islice(data.order.draws(START), 36)}
    assert set(seen) == {number for number, key in names.items() if int(key) % 5}


def test_a_compressed_or_foreign_file_keeps_its_own_reason(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(UserError, match="not a complete, uncompressed tar file"):
        load_index(tmp_path / "a.tar")
