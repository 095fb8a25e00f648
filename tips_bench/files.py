"""Files that are either whole or absent, and their hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tips_bench.errors import UserError


@contextmanager
def atomic(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `path`, renamed onto it when the block ends well and removed when it does not.

    durable: on the disk when the block has ended, whatever happens to the power.
    An operating-system error (read-only folder, full disk) becomes a UserError that names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if durable:
                sync(temporary)
            os.replace(temporary, path)
            if durable:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


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
    """Hex SHA-256 of the parts' text, each kept apart from the next: the key of a cache entry or a hash split."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()
