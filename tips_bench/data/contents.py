"""Hashes of what files hold, so that a file replaced by another of its size is noticed. Each file is read once.

The hashes are kept in an SQLite file in the cache, under the file's path, size, inode and times of change: to one microsecond a file where
nothing changed. A file that changed in the last seconds is not kept, for it may change again within one tick of its clock. An index that
cannot be read or written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.progress import bar

SETTLED_S = 2.0  # the coarsest clock of a common file system, FAT's
WAIT_S = 30.0  # for another process that is writing the index
BATCH = 500  # paths a query; SQLite takes 999 variables or more
THREADS = 8
_TABLE = "CREATE TABLE IF NOT EXISTS contents (path TEXT PRIMARY KEY, state TEXT NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID"


def content_hashes(paths: Iterable[str]) -> dict[str, str]:
    """Path -> hex SHA-256 of the file's bytes. Errors: a file that cannot be read."""
    states = {path: _state(path) for path in dict.fromkeys(paths)}
    with _index() as index:
        known = _known(index, states)
        hashes = {path: known[path][1] for path, state in states.items() if path in known and known[path][0] == state}
        missing = [path for path in states if path not in hashes]
        if missing:
            hashes |= _read(missing)
            _keep(index, [(path, states[path], hashes[path]) for path in missing if _is_settled(states[path])])
    return hashes


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read: {error}", where=path) from error
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_dev} {found.st_ino}"


def _is_settled(state: str) -> bool:
    changed_ns = max(map(int, state.split()[1:3]))
    return time.time_ns() - changed_ns > SETTLED_S * 1e9


def _read(paths: list[str]) -> dict[str, str]:
    with bar("reading the data once, to know them again", len(paths), "files") as advance, ThreadPoolExecutor(THREADS) as pool:
        hashes = {}
        for path, hash in zip(paths, pool.map(_hash, paths), strict=True):
            hashes[path] = hash
            advance()
        return hashes


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error


@contextlib.contextmanager
def _index() -> Iterator[sqlite3.Connection | None]:
    """The index; None where there can be none."""
    file = cache_root() / "contents.sqlite"
    index = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        index = sqlite3.connect(file, timeout=WAIT_S)
        index.execute(_TABLE)
    except (OSError, sqlite3.Error):
        if index is not None:
            index.close()
        index = None
    try:
        yield index
    finally:
        if index is not None:
            index.close()


def _known(index: sqlite3.Connection | None, states: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Path -> (its state then, its hash)."""
    if index is None:
        return {}
    by_key = {_key(path): path for path in states}
    keys, found = list(by_key), dict[str, tuple[str, str]]()
    try:
        for start in range(0, len(keys), BATCH):
            some = keys[start : start + BATCH]
            rows = index.execute(f"SELECT path, state, hash FROM contents WHERE path IN ({','.join('?' * len(some))})", some)
            found |= {by_key[key]: (state, hash) for key, state, hash in rows}
    except sqlite3.Error:
        return {}
    return found


def _keep(index: sqlite3.Connection | None, rows: list[tuple[str, str, str]]) -> None:
    if index is None or not rows:
        return
    with contextlib.suppress(sqlite3.Error), index:
        index.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", [(_key(path), *rest) for path, *rest in rows])


def _key(path: str) -> str:
    return os.fsencode(Path(path).absolute()).decode("utf-8", "backslashreplace")
