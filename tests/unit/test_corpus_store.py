"""A corpus is the same bytes for the same samples, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.shards import picture, sample, write_shard
from tips_bench.corpus import store
from tips_bench.corpus.store import Manifest, Sample, Step, load_manifest, read_samples, save_manifest, shards_of
from tips_bench.errors import UserError
from tips_bench.files import sha256


def samples(number: int = 3) -> list[Sample]:
    return [Sample(f"{one:06d}", picture(one), "jpg", {"web": f"a room, {one}", "url": "ü"}) for one in range(number)]


def test_samples_come_back_as_they_were_written(tmp_path: Path) -> None:
    shard = store.write_shard(tmp_path / "00000.tar", samples())
    assert list(read_samples(tmp_path / shard.name)) == samples()
    assert (shard.samples, shard.size, shard.sha256) == (3, (tmp_path / shard.name).stat().st_size, sha256(tmp_path / shard.name))


def test_the_same_samples_are_the_same_bytes_whatever_the_order_of_what_is_said(tmp_path: Path) -> None:
    turned = [Sample(one.key, one.image, one.extension, dict(reversed(one.said.items()))) for one in samples()]
    first, second = store.write_shard(tmp_path / "a.tar", samples()), store.write_shard(tmp_path / "b.tar", iter(turned))
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "000000"])
def test_a_key_that_readers_would_misread_is_not_written(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        store.write_shard(tmp_path / "a.tar", [*samples(1), Sample(key, b"", "jpg")])
    assert not list(tmp_path.iterdir())


def test_text_files_are_captions_where_the_json_has_none(tmp_path: Path) -> None:
    shard = write_shard(
        tmp_path / "a.tar",
        [
            sample(0, json=json.dumps({"url": "u"}).encode(), txt=b"a sofa\nA red sofa.\n"),
            sample(1, json=None, txt=b"a lamp"),
            sample(2, txt=b"not this one"),
        ],
    )
    said = [one.said for one in read_samples(shard)]
    assert said[0] == {"url": "u", "web": "a sofa", "synthetic": ["A red sofa."]}
    assert said[1] == {"web": "a lamp"} and said[2]["web"] == "web 2"


def test_samples_without_an_image_or_with_broken_captions_are_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [sample(0), sample(1, jpg=None), sample(2, json=b"{"), sample(3, json=b"[]")])
    dropped: list[tuple[str, str]] = []
    assert [one.key for one in read_samples(shard, dropped)] == ["000000"]
    assert dropped == [("000001", "no image"), ("000002", "broken captions"), ("000003", "broken captions")]


def test_a_manifest_is_read_as_it_was_written_and_names_the_shards(tmp_path: Path) -> None:
    manifest = Manifest(
        steps=[Step(name="fetch", settings={"least": 2}, version="1", samples=3, dropped={"too small": 1})],
        shards=[store.write_shard(tmp_path / name, samples()) for name in ("b.tar", "a.tar")],
    )
    save_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest
    assert [path.name for path in shards_of(tmp_path)] == ["b.tar", "a.tar"]


def test_what_is_no_corpus_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no shards \(\*.tar\) are here"):
        load_manifest(tmp_path)
    (tmp_path / store.BEGUN).write_text("{}")
    with pytest.raises(UserError, match="has not ended"):
        load_manifest(tmp_path)
    (tmp_path / store.MANIFEST).write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        load_manifest(tmp_path)
    (tmp_path / store.MANIFEST).write_text('{"shard": []}')
    with pytest.raises(UserError, match="Did you mean 'shards'"):
        load_manifest(tmp_path)


def test_a_folder_of_shards_needs_no_manifest(tmp_path: Path) -> None:
    write_shard(tmp_path / "b.tar", [sample(0)])
    write_shard(tmp_path / "a.tar", [sample(1)])
    assert load_manifest(tmp_path) is None
    assert [path.name for path in shards_of(tmp_path)] == ["a.tar", "b.tar"]
