"""Bytes of shards, on a file system or in object storage, with reads and writes that are tried again.

A shard is named by a path or by a URL that fsspec knows (s3://, gs://, hf://, https://), which is then a `UPath` of universal_pathlib, with
the methods of a path. A read asks for a range of bytes and gets all of it or fails.
"""

from __future__ import annotations

import random
import tarfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

from tips_bench.errors import UserError
from tips_bench.journal import warn

TRIES = 14
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # doubled with each try; four minutes together
TOLD_AT = 4  # tries, eight seconds
OPEN_FILES = 32
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_JITTER = random.Random()  # its own, so that the global random state stays as it is
ValueT = TypeVar("ValueT")


class ShardFault(UserError):
    """A shard that cannot be read as its index says: gone, changed or broken since the run began."""


def shard_path(name: str) -> Path:
    """A path of the file system, or a URL's. Errors: a URL, and the package that reads it is not installed."""
    if "://" not in name:
        return Path(name).expanduser()
    try:
        from upath import UPath

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="UPath .* filesystem not explicitly implemented")
            path = UPath(name)
        path.fs  # noqa: B018  # its package is imported only now
        return cast(Path, path)
    except (ImportError, ValueError) as error:
        fix = "Run `pip install 'tips-bench[remote]'`, and install what the message names."
        raise UserError(f"what reads this address is not installed ({error})", where=name, fix=fix) from error


def is_remote(path: Path) -> bool:
    """Whether it lies in object storage."""
    return hasattr(path, "fs")


class ShardFiles:
    """Ranges of shards. A few files stay open; each process has its own."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, IO[bytes]] = OrderedDict()

    def read(self, path: Path, start: int, size: int) -> bytes:
        """`size` bytes from `start` on. Errors: a shard that has become shorter, or that cannot be read after TRIES tries."""
        data = patiently(path, lambda: self._range(path, start, size))
        if len(data) != size:
            raise ShardFault("the shard was changed while it was read", where=path, fix="Go on when the file is complete.")
        return data

    def close(self) -> None:
        """Lets go of the files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _range(self, path: Any, start: int, size: int) -> bytes:
        if is_remote(path):
            return bytes(path.fs.cat_file(path.path, start=start, end=start + size))
        file = self._open.pop(path, None)
        if file is None:
            if len(self._open) >= OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = path.open("rb", buffering=0)
        self._open[path] = file
        try:
            file.seek(start)
            parts, missing = [], size
            while missing and (part := file.read(missing)):
                parts.append(part)
                missing -= len(part)
            return b"".join(parts)
        except OSError:
            self._open.pop(path).close()  # a file of a server that went away is opened again
            raise


def patiently(path: Path, call: Callable[[], ValueT], *, doing: Literal["read", "written"] = "read") -> ValueT:
    """What `call` gives, tried again for minutes after faults of a network or a disk.

    Errors: a file that is not there or may not be read, or the last try's fault, as a ShardFault.
    """
    for number in range(TRIES):
        try:
            return call()
        except Exception as error:
            if not _is_of_the_storage(path, error):
                raise
            if number == TRIES - 1 or _is_final(error):
                raise _failed(path, error, doing) from error
            if number == TOLD_AT:
                warn(f"{path}: it cannot be {doing} ({_said(error)}), and is tried again for some minutes")
        # ranks that failed together do not come back together
        time.sleep(min(FIRST_WAIT_S * 2**number, LONGEST_WAIT_S) * _JITTER.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def _is_of_the_storage(path: Path, error: Exception) -> bool:
    """Whether a disk or a server failed, and not what was read. Clients of object storage raise errors of their own kinds."""
    return isinstance(error, OSError) or (is_remote(path) and not isinstance(error, UserError | tarfile.TarError))


def _is_final(error: Exception) -> bool:
    """Whether to try again would not help. Clients of object storage have their own errors for credentials that are missing."""
    return isinstance(error, FINAL) or "Credential" in type(error).__name__


def _failed(path: Path, error: Exception, doing: str) -> ShardFault:
    what = "the shard" if path.suffix == ".tar" else "it"
    fix = "Check the address, and the credentials for it." if is_remote(path) else "Check the file and its permissions."
    return ShardFault(f"{what} cannot be {doing} ({_said(error)})", where=path, fix=fix)


def _said(error: Exception) -> object:
    return getattr(error, "strerror", None) or error
