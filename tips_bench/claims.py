"""Who does what, among processes that share a folder: a lock on a file, which ends with its process however that ends.

The lock is flock. On NFS Linux makes it a lock of the server's, which counts for all machines; where a file system gives none, that is
said, since without it two processes would do the same work into the same files.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.files import cannot_write

PATIENCE_S, LOOK_AGAIN_S = 1.0, 0.02
TRIES = 20  # to open a file


def is_claimed(path: Path) -> bool:
    """Whether a process has this file locked. To find out takes the lock for a moment, for which `claimed` waits.

    Errors: the file system gives no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(path, descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process has the file locked while the block runs. Errors: the folder takes no file, or gives no locks.

    A lock that others have is tried for PATIENCE_S, since `is_claimed` may have it for a moment.
    """
    until = time.monotonic() + PATIENCE_S
    while (descriptor := _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None and time.monotonic() < until:
        time.sleep(LOOK_AGAIN_S)
    if descriptor is None:
        yield False
        return
    try:
        _sign(descriptor)
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Have the file locked while the block runs, once no other process has. Errors: as for `claimed`."""
    while (descriptor := _locked(path, fcntl.LOCK_EX)) is None:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """A folder that other processes may use at the same time; the last whose block ends well removes it.

    Beside it lies FOLDER.used, locked by all of them. Errors: as for `claimed`.
    """
    path = folder.with_name(f"{folder.name}.used")
    while (descriptor := _locked(path, fcntl.LOCK_SH)) is None:
        pass
    try:
        yield
        if _lock(path, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def holder(path: Path) -> str:
    """Which process has claimed a file, in words: "process 12 on node-3"."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _locked(path: Path, how: int) -> int | None:
    """A descriptor of the file, locked until it is closed; None if another process has it, or has just removed it."""
    descriptor = _opened(path)
    ours = False
    try:
        with suppress(FileNotFoundError):
            ours = _lock(path, descriptor, how) and os.path.samestat(os.fstat(descriptor), path.stat())
    finally:
        if not ours:
            os.close(descriptor)
    return descriptor if ours else None


def _opened(path: Path) -> int:
    """Open a file, which is made where it is missing, with its folder. Another process may remove the folder in the same moment."""
    for left in reversed(range(TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if not left or not isinstance(error, FileExistsError | FileNotFoundError):
                raise cannot_write(path, error) from error
    raise AssertionError("unreachable")


def _lock(path: Path, descriptor: int, how: int) -> bool:
    """Whether the open file is locked now."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        fix = "Use one that does on every machine: NFS with its lock service, Lustre mounted with -o flock, or a local disk."
        raise UserError(f"this file system gives no locks ({error.strerror})", where=path, fix=fix) from error
    return True


def _sign(descriptor: int) -> None:
    """Write into a locked file who has it. On a full disk it stays empty."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
