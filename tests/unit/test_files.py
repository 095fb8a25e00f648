"""files.py: whole or absent, and hashes that others compute as well."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tips_bench import files
from tips_bench.errors import UserError


def test_a_block_that_ends_well_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "grüße")
    assert path.read_bytes() == "grüße".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, fault: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(fault), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise fault
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from tips_bench.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_a_folder_that_is_a_file_is_a_user_error_naming_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/a\.txt: cannot write: .*Free space there or choose another folder"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left on device"):
        files.write_text(tmp_path / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


# no process has a number beyond the kernel's largest, 2 ** 22
DEAD = f"{2**22 + 1}-0a1b2c3d"


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tips_bench.files import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "set")], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -9 and len(list(tmp_path.iterdir())) == 1
    with files.temporary_folder(tmp_path / "set") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_what_others_are_working_on_or_have_named_so_stays(tmp_path: Path) -> None:
    for name in (f".other.{DEAD}.tmp", ".set.tmp", ".set.x-0a1b2c3d.tmp", f".set.{DEAD}.tmpx", f".set.{os.getppid()}-0a1b2c3d.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / f".set.{DEAD}.tmp").write_text("a file")
    (tmp_path / f".set.{2**22 + 2}-0a1b2c3d.tmp").symlink_to(tmp_path / ".set.tmp")
    before = sorted(tmp_path.iterdir())
    with files.temporary_folder(tmp_path / "set"):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_the_folder_of_a_process_that_another_machine_may_know_stays_while_it_is_locked(tmp_path: Path) -> None:
    left = tmp_path / f".set.{DEAD}.tmp"
    left.mkdir()
    handle = os.open(left, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for there in (True, False):
        with files.temporary_folder(tmp_path / "set"):
            assert left.exists() == there
        if there:
            os.close(handle)


def test_what_was_to_be_replaced_comes_back_where_a_kill_left_nothing(tmp_path: Path) -> None:
    left = tmp_path / f".set.{DEAD}.old"
    left.mkdir()
    (left / "a").write_text("a")
    with files.temporary_folder(tmp_path / "set"):
        assert (tmp_path / "set" / "a").read_text() == "a"
    left.mkdir()
    with files.temporary_folder(tmp_path / "set"):
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.endswith("old")) == []


def test_a_private_folder_is_nobody_elses(tmp_path: Path) -> None:
    with files.temporary_folder(tmp_path / "set", private=True) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700


@given(st.binary(max_size=200))
def test_sha256_is_that_of_the_bytes_read_at_once(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(data)
    assert files.sha256(path) == hashlib.sha256(data).hexdigest()


PARTS = st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=4)


@given(PARTS, PARTS)
def test_different_parts_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (files.digest(*one) == files.digest(*other)) == (one == other)


def test_a_pipe_is_sent_what_was_written_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="cannot write"):
        files.write_text(pipe, "nobody reads")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "text")
    assert os.read(reader, 10) == b"text" and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    os.close(reader)


def test_a_device_is_never_replaced() -> None:
    files.write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
