"""Hashes of files that are kept: a replaced file is noticed, an unchanged one is not read again."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tips_bench.catalog import cache_root
from tips_bench.data import contents
from tips_bench.data.contents import content_hashes
from tips_bench.errors import UserError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that has not changed for a long time, and an empty cache."""
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "SETTLED_S", 0.0)
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    time.sleep(0.02)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_did_not_change_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert content_hashes([str(file), str(file)]) == {str(file): sha256(file)}
    monkeypatch.setattr(contents, "_hash", lambda path: pytest.fail(f"{path} was read again"))
    assert content_hashes([str(file)]) == {str(file): sha256(file)}


def test_a_file_written_over_or_replaced_is_noticed_though_size_and_time_are_kept(file: Path, tmp_path: Path) -> None:
    content_hashes([str(file)])
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert content_hashes([str(file)]) == {str(file): sha256(file)}
    other = tmp_path / "b.png"
    other.write_bytes(b"six")
    os.utime(other, ns=times)
    other.replace(file)
    assert content_hashes([str(file)]) == {str(file): sha256(file)}


def test_a_file_that_changed_just_now_is_not_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SETTLED_S", 60.0)
    content_hashes([str(file)])
    monkeypatch.setattr(contents, "_hash", lambda path: "read again")
    assert content_hashes([str(file)]) == {str(file): "read again"}


@pytest.mark.parametrize("fault", ["no database", "a folder", "another table"])
def test_an_index_that_cannot_be_used_is_done_without(file: Path, fault: str) -> None:
    index = cache_root() / "contents.sqlite"
    index.parent.mkdir()
    if fault == "a folder":
        index.mkdir()
    elif fault == "no database":
        index.write_bytes(b"not a database" * 100)
    else:
        import sqlite3

        sqlite3.connect(index).execute("CREATE TABLE contents (other TEXT)").connection.close()
    assert content_hashes([str(file)]) == {str(file): sha256(file)}


def test_several_processes_use_one_index(file: Path, tmp_path: Path) -> None:
    files = []
    for number in range(300):
        files.append(str(tmp_path / f"{number}.bin"))
        Path(files[-1]).write_bytes(str(number).encode())
    with ProcessPoolExecutor(3) as pool:
        found = list(pool.map(content_hashes, [files] * 6))
    assert all(one == {path: sha256(Path(path)) for path in files} for one in found)


def test_a_file_that_is_gone_is_named(file: Path) -> None:
    file.unlink()
    with pytest.raises(UserError, match=r"a\.png"):
        content_hashes([str(file)])
