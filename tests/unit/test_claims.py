"""Claims: one process has a file, others see it without being in its way, and it ends with the process."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tips_bench import claims
from tips_bench.claims import claimed, holder, is_claimed, used, waited_for
from tips_bench.errors import UserError


@contextmanager
def looked_at_all_the_time(path: Path) -> Iterator[None]:
    """As by several `status` in a loop."""
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            is_claimed(path)

    others = [threading.Thread(target=look) for _ in range(3)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        ended.set()
        for other in others:
            other.join()


def test_those_who_look_take_no_claim_from_those_who_work(tmp_path: Path) -> None:
    path = tmp_path / "piece.running"
    path.touch()
    with looked_at_all_the_time(path):
        for _ in range(100):
            with claimed(path) as ours:
                assert ours


def test_a_claim_that_another_has_is_refused_and_says_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "PATIENCE_S", 0.05)
    path = tmp_path / "piece.running"
    path.write_text("process 12345678901234567890 on a machine with a long name, which had it before\n")
    with claimed(path) as first, claimed(path) as second:
        assert (first, second) == (True, False)
        assert holder(path).startswith(f"process {os.getpid()} on ") and "before" not in holder(path)
    with claimed(path) as again:
        assert again


def test_who_has_a_file_without_words_is_another_process(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert holder(tmp_path / "empty") == holder(tmp_path / "missing") == "another process"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "piece.running"
    path.touch()
    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    said = r"piece\.running: this file system gives no locks \(.+\)\. Use one that does on every machine"
    with pytest.raises(UserError, match=said), claimed(path):
        pass
    with pytest.raises(UserError, match=said), waited_for(path):
        pass
    with pytest.raises(UserError, match=said):
        is_claimed(path)


def test_a_file_that_its_holder_removes_is_claimed_anew(tmp_path: Path) -> None:
    path = tmp_path / "work" / "run.lock"
    with claimed(path) as first:
        assert first
        waiting = threading.Timer(0.1, path.unlink)
        waiting.start()
        with claimed(path) as second:
            assert second and path.is_file()


def test_a_folder_that_another_removes_in_the_same_moment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_, left = os.open, [FileNotFoundError(errno.ENOENT, "gone"), FileExistsError(errno.EEXIST, "gone, and there again")]

    def opened(path: Path, *rest: int) -> int:
        if left:
            raise left.pop()
        return open_(path, *rest)

    monkeypatch.setattr(claims.os, "open", opened)
    with claimed(tmp_path / "work" / "piece.running") as ours:
        assert ours and not left
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), waited_for(tmp_path / "file" / "piece.running"):
        pass


def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), claimed(tmp_path / "file" / "piece.running"):
        pass


def test_the_last_that_uses_a_folder_removes_it(tmp_path: Path) -> None:
    folder = tmp_path / ".features" / "key"
    with used(folder):
        folder.mkdir()
        with used(folder):
            pass
        assert folder.is_dir(), "another process still uses it"
    assert list(folder.parent.iterdir()) == []
    with pytest.raises(KeyError), used(folder):
        folder.mkdir()
        raise KeyError
    assert folder.is_dir(), "a block that failed leaves it for the next try"
