"""Files that are either whole or absent, and their hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tips_bench.errors import UserError


@contextmanager
def atomic(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, renamed onto it when the block ends well and removed when it does not.

    A device or a pipe is never replaced: it is sent what was written. durable: on the disk when the block has ended, whatever happens to
    the power.
    An operating-system error (read-only folder, full disk) becomes a UserError that names the file, and so does a path without a name.
    """
    if not path.name:
        raise UserError("a folder, not the name of a file", where=path, fix="Give a file name.")
    stream = path.exists() and not path.is_file() and not path.is_dir()
    folder = Path(tempfile.gettempdir()) if stream else path.parent
    temporary = folder / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                sync(temporary)
            if stream:
                _send(temporary, path)
            else:
                os.replace(temporary, path)
            if durable and not stream:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _send(file: Path, stream: Path) -> None:
    """Write a file into a device or a pipe. Errors: an OSError where nobody reads the pipe."""
    with file.open("rb") as source, open(os.open(stream, os.O_WRONLY | os.O_NONBLOCK), "wb") as target:
        os.set_blocking(target.fileno(), True)
        shutil.copyfileobj(source, target)


@contextmanager
def temporary_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield an empty sibling of `path`, there to be renamed onto it, and removed when the block ends if it still is there.

    What a killed process left there goes first. private: nobody else may look in. Errors: an OSError as it comes.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.mkdir(mode=0o700 if private else 0o777)
    lock = os.open(temporary, os.O_RDONLY)
    try:
        _lock(lock)
        yield temporary
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what `temporary_folder` made beside `path` for a process that has ended.

    A process number alone does not tell: on a shared disk it may be another machine's. So each holds a lock on its folder, which ends
    with it; where a file system takes none, everything stays. `.old` is what was to be replaced: it comes back where nothing is.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-[0-9a-f]{{8}}\.(tmp|old)")
    for left in list(path.parent.iterdir()):
        match = pattern.fullmatch(left.name)
        if match is None or _is_alive(int(match[1])):
            continue
        with contextlib.suppress(FileNotFoundError):  # its process, on another machine, has just named it
            if left.is_symlink() or not left.is_dir() or left.stat().st_uid != os.geteuid():
                continue
            if match[2] == "old" and not path.exists():
                os.replace(left, path)
            else:
                _remove_if_free(left)


def _remove_if_free(folder: Path) -> None:
    """Remove a folder of ours whose lock nobody holds, as far as that goes."""
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY)
        try:
            if _lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(folder: int) -> bool:
    """Whether this process holds an open folder's lock now."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(process: int) -> bool:
    """Whether this machine has such a process."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def sync(path: Path) -> None:
    """Hand a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write `text` as UTF-8, atomically. durable: as for `atomic`."""
    with atomic(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a folder that takes no file, with the system's own reason."""
    return UserError(f"cannot write: {error.strerror or error}", where=path, fix="Free space there or choose another folder.")


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that a folder is on, or will be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """Hex SHA-256 of the parts' text, each kept apart from the next: the key of a cache entry or a hash split.

    Of names of files that are no UTF-8, their bytes count.
    """
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def shown(name: str) -> str:
    """The name of a file for texts in UTF-8: of a name that is none, each byte that does not fit as \\xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
