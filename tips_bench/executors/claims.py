"""Who does what, among processes that share a folder: a lock on a file, which ends with its process however that ends."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tips_bench.files import cannot_write

PATIENCE_S, LOOK_AGAIN_S = 1.0, 0.02


def is_claimed(path: Path) -> bool:
    """Whether a process has this file locked. To find out takes the lock for a moment, for which `claimed` waits."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process has the file locked while the block runs. Errors: the folder takes no file.

    A lock that others have is tried for PATIENCE_S, since `is_claimed` may have it for a moment.
    """
    with _opened(path) as descriptor:
        until = time.monotonic() + PATIENCE_S
        while not (ours := _lock(descriptor)) and time.monotonic() < until:
            time.sleep(LOOK_AGAIN_S)
        if ours:
            _sign(descriptor)
        yield ours


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Have the file locked while the block runs, once no other process has. Errors: the folder takes no file."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def holder(path: Path) -> str:
    """Which process has claimed a file, in words: "process 12 on node-3"."""
    try:
        return path.read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _lock(descriptor: int) -> bool:
    """Whether the open file is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sign(descriptor: int) -> None:
    """Write into a locked file who has it. On a full disk it stays empty."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
