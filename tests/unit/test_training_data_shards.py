"""The order in which samples are drawn from shards, and what broken shards are told."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.shards import sample, write_shard, write_shards
from tips_bench.errors import UserError
from tips_bench.training.shard_index import Entry, index_shard, load_index
from tips_bench.training.shards import Cursor, SampleFault, ShardOrder, expand_shards

COUNTS = [7, 1, 12, 5, 0, 9]
TOTAL = sum(COUNTS)
START = Cursor()


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"), COUNTS)


def names(order: ShardOrder, count: int, cursor: Cursor = START, rank: int = 0, world: int = 1) -> list[tuple[int, str]]:
    return [(draw.number, draw.entry.key) for draw in itertools.islice(order.draws(cursor, rank, world), count)]


def test_a_shard_holds_what_webdataset_reads_in_it(pattern: str) -> None:
    for path in expand_shards([pattern]):
        theirs = list(wds.WebDataset(str(path), shardshuffle=False, empty_check=False))
        entries = index_shard(path)
        assert [entry.key for entry in entries] == [one["__key__"] for one in theirs]
        assert load_index(path).samples == len(theirs)
        said = {one["__key__"]: {"jpg": one["jpg"], "json": one["json"]} for one in theirs}
        if theirs:
            draws = itertools.islice(ShardOrder([path], seed=0, shuffle=3).draws(START), len(theirs))
            assert {draw.entry.key: draw.read("jpg", "json", "txt") for draw in draws} == said


def test_each_epoch_has_every_sample_once_in_an_order_of_its_own(pattern: str) -> None:
    drawn = [key for _, key in names(ShardOrder(expand_shards([pattern]), seed=0, shuffle=10), 3 * TOTAL)]
    epochs = [drawn[k * TOTAL : (k + 1) * TOTAL] for k in range(3)]
    assert all(sorted(epoch) == [f"{number:06d}" for number in range(TOTAL)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3 and epochs[0] != sorted(epochs[0])


def test_the_seed_decides_the_order(pattern: str) -> None:
    paths = expand_shards([pattern])
    orders = [names(ShardOrder(paths, seed=seed, shuffle=10), TOTAL) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(world=st.integers(1, 40), shuffle=st.integers(1, 50), seed=st.integers(0, 3))
def test_ranks_share_the_one_order_without_overlap_or_gap(pattern: str, world: int, shuffle: int, seed: int) -> None:
    order = ShardOrder(expand_shards([pattern]), seed=seed, shuffle=shuffle)
    whole = names(order, 2 * TOTAL)
    assert [number for number, _ in whole] == list(range(2 * TOTAL))
    shared = [names(order, len(whole[rank::world]), rank=rank, world=world) for rank in range(world)]
    assert shared == [whole[rank::world] for rank in range(world)]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(world=st.integers(1, 5), shuffle=st.integers(1, 50), stop=st.integers(0, 3 * TOTAL), data=st.data())
def test_a_cursor_goes_on_where_it_was_taken(pattern: str, world: int, shuffle: int, stop: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, world - 1))
    order = ShardOrder(expand_shards([pattern]), seed=0, shuffle=shuffle)
    whole = list(itertools.islice(order.draws(START, rank, world), stop + 20))
    cursor = whole[stop - 1].after if stop else START
    assert names(order, 20, cursor, rank, world) == [(draw.number, draw.entry.key) for draw in whole[stop:]]


def test_a_larger_pool_mixes_shards(pattern: str) -> None:
    def runs(shuffle: int) -> int:
        draws = itertools.islice(ShardOrder(expand_shards([pattern]), seed=0, shuffle=shuffle).draws(START), TOTAL)
        return len(list(itertools.groupby(draw.path for draw in draws)))

    assert runs(1) == len(COUNTS) - 1 < runs(TOTAL)


@pytest.mark.slow
def test_first_draws_are_uniform_over_samples(pattern: str) -> None:
    paths = expand_shards([pattern])
    first = Counter(names(ShardOrder(paths, seed=seed, shuffle=TOTAL), 1)[0][1] for seed in range(340))
    assert len(first) > TOTAL * 0.95 and max(first.values()) < 30  # ten each are expected


def test_patterns_keep_their_order_and_need_not_have_braces(tmp_path: Path) -> None:
    for name in ("b", "a", "c-1", "c-2"):
        write_shard(tmp_path / f"{name}.tar", [sample(1)])
    assert [path.stem for path in expand_shards([f"{tmp_path}/{{b,a}}.tar", f"{tmp_path}/c-{{1..2}}.tar"])] == ["b", "a", "c-1", "c-2"]


def test_missing_shards_are_named(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1])
    with pytest.raises(UserError, match=r"train-002\.tar: 2 of 4 shards are missing.*Check the pattern"):
        expand_shards([f"{tmp_path}/train-{{000..003}}.tar"])
    with pytest.raises(UserError, match=r"data\.shards: the list of shards is empty"):
        expand_shards([])
    with pytest.raises(UserError, match=r"train-000\.tar: the shard is named twice"):
        expand_shards([f"{tmp_path}/train-{{000..001}}.tar", f"{tmp_path}/train-000.tar"])


def test_shards_of_a_corpus_whose_step_has_not_ended_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1])
    (tmp_path / ".begun.json").write_text("{}")
    for last in ("001", "009"):
        with pytest.raises(UserError, match=f"^{tmp_path}: the step that makes this corpus has not ended. Give its command again"):
            expand_shards([f"{tmp_path}/train-{{000..{last}}}.tar"])
    (tmp_path / "corpus.json").write_text("{}")
    assert len(expand_shards([f"{tmp_path}/*.tar"])) == 2


def test_a_table_or_a_folder_in_place_of_shards_is_told_how_to_become_some(tmp_path: Path) -> None:
    (tmp_path / "train-0.parquet").touch()
    with pytest.raises(UserError, match=r"train-0\.parquet: this is a table.* corpus fetch .*train-0\.parquet --to FOLDER"):
        expand_shards([f"{tmp_path}/*.parquet"])
    with pytest.raises(UserError, match=r"LINKS\.CSV: this is a table"):
        expand_shards([f"{tmp_path}/LINKS.CSV"])
    with pytest.raises(UserError, match=r"this is a folder.* corpus fetch .* --to FOLDER"):
        expand_shards([str(tmp_path)])
    write_shards(tmp_path, [1])
    with pytest.raises(UserError, match=r"this is a folder.*Name the shards in it: --set data\.shards='.*/\*\.tar'"):
        expand_shards([str(tmp_path)])


def broken(path: Path, how: str) -> None:
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        second = tar.getmembers()[1].offset
    path.write_bytes(
        {
            "no tar": b"not a tar file" * 100,
            "empty": b"",
            "cut in a member": data[: second - 700],
            "cut in a header": data[: second + 100],
            "cut between members": data[:second],
            "a spoilt header": data[:second] + b"x" * 512 + data[second + 512 :],
        }[how]
    )


@pytest.mark.parametrize("how", ["no tar", "empty", "cut in a member", "cut in a header", "cut between members", "a spoilt header"])
def test_a_broken_shard_is_named_and_never_half_read(tmp_path: Path, how: str) -> None:
    path = write_shard(tmp_path / "train-000.tar", [sample(number) for number in range(3)])
    broken(path, how)
    with pytest.raises(UserError, match=r"train-000\.tar: not a complete, uncompressed tar file .*remove it from data\.shards"):
        index_shard(path)


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(UserError, match="not a complete, uncompressed tar file"):
        index_shard(tmp_path / "a.tar")


def test_a_member_of_negative_size_does_not_lead_round_in_a_circle(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(UserError, match="not a complete, uncompressed tar file"):
        index_shard(tmp_path / "a.tar")


def test_folders_links_and_files_without_a_suffix_are_no_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("set", tarfile.DIRTYPE), ("set/a.jpg", tarfile.SYMTYPE), ("set/README", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("set/b.JPG"), io.BytesIO())
    assert index_shard(tmp_path / "a.tar") == [Entry("set/b", {"jpg": (4 * 512, 0)}, False)]


def test_a_shard_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(1)])
    draws = ShardOrder([path], seed=0, shuffle=1).draws(START)
    draw = next(draws)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"a\.tar: the shard was changed while it was read"):
        draw.read("jpg", "json")


def test_shards_without_samples_do_not_loop_for_ever(tmp_path: Path) -> None:
    write_shards(tmp_path, [0, 0])
    with pytest.raises(UserError, match="the shards hold no samples"):
        next(ShardOrder(expand_shards([f"{tmp_path}/train-{{000..001}}.tar"]), seed=0, shuffle=5).draws(START))


def test_members_that_come_twice_or_are_too_large_are_faults_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "a.tar", [sample(1), sample(1)])
    (draw,) = itertools.islice(ShardOrder([path], seed=0, shuffle=1).draws(START), 1)
    with pytest.raises(SampleFault, match="a name twice"):
        draw.read("jpg")
    path = write_shard(tmp_path / "b.tar", [sample(1)])
    monkeypatch.setattr("tips_bench.training.shards.MAX_MEMBER", 100)
    (draw,) = itertools.islice(ShardOrder([path], seed=0, shuffle=1).draws(START), 1)
    with pytest.raises(SampleFault, match="a member too large"):
        draw.read("jpg")
