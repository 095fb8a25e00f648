"""Hashes of shards without a manifest: those of the files, found once for each version of a file."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from tips_bench.corpus import hashes
from tips_bench.corpus.hashes import hashes_of
from tips_bench.corpus.store import Manifest, Shard


def test_a_shard_is_read_again_only_when_it_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    shards, read = [tmp_path / "a.tar", tmp_path / "b.tar"], list[str]()
    for number, path in enumerate(shards):
        path.write_bytes(bytes([number]) * 10)
    monkeypatch.setattr(hashes, "sha256_of", lambda path: read.append(path.name) or sha256(path.read_bytes()).hexdigest())
    expected = [sha256(path.read_bytes()).hexdigest() for path in shards]
    assert hashes_of(Manifest(), shards, None) == expected == hashes_of(Manifest(), shards, None)
    assert read == ["a.tar", "b.tar"]
    shards[1].write_bytes(b"other")
    os.utime(shards[1], ns=(1, 1))
    assert hashes_of(Manifest(), shards, None)[1] == sha256(b"other").hexdigest() and read == ["a.tar", "b.tar", "b.tar"]


def test_those_of_a_manifest_need_no_reading(tmp_path: Path) -> None:
    manifest = Manifest(steps=[], shards=[Shard(name="a.tar", samples=1, size=1, sha256="0" * 64)])
    assert hashes_of(manifest, [tmp_path / "a.tar"], None) == ["0" * 64]
