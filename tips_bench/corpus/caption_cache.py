"""Answers of captioners, kept so that no question is asked twice, whatever is stopped and started again and by how many processes.

A folder holds the answers of one captioner, each under a hash of image, prompt card and prompt. A process that asks appends to a journal
of its own, one for all its shards, a line an answer, so nothing is locked and nothing that was written is changed. Once the journals have
grown, what is new in them becomes a segment: a table that is never written to again and that any number of processes read, on a shared
file system too. Several segments of about one size become one, so that there are never many to look into.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from tips_bench.corpus.captioners.base import Answer
from tips_bench.errors import UserError
from tips_bench.files import atomic, cannot_write, digest

JOURNAL, SEGMENT = ".jsonl", ".sqlite"
_TABLES = """
CREATE TABLE answers (key BLOB PRIMARY KEY, text TEXT NOT NULL, cut INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE journals (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
"""
_LATER = "INSERT INTO journals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = max(size, excluded.size)"
AT_ONCE = 500  # keys of a query
LARGEST_NEWS = 1 << 22  # bytes in journals, some 15,000 answers, that a process reads into its memory
MERGED = 8  # segments of about one size that become one
TRIES = 20  # to open segments while another process merges them


@functools.lru_cache(maxsize=1)
def _journal_name(process: int) -> str:
    return f"{socket.gethostname()}-{process}-{secrets.token_hex(4)}{JOURNAL}"


class _Gone(Exception):
    """A segment that another process has merged into another one."""


def answer_key(image_sha256: str, prompt_digest: str, text: str) -> str:
    """Under what an answer is kept, in hex. text: the prompt as it was asked."""
    return digest(image_sha256, prompt_digest, text)[:32]


class AnswerCache:
    """The answers in a folder: those that were there when it was opened, and its own. Safe for several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        news = _news(folder)
        if sum(len(data) for _, data in news.values()) > LARGEST_NEWS:
            _write_segment(folder, news)
            news = {}
        self._lock = threading.Lock()
        self._own = {key: answer for _, data in news.values() for key, answer in _lines(data)}
        self._segments = _open_all(folder)
        self._path = folder / _journal_name(os.getpid())
        self._journal: int | None = None

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for segment in self._segments:
                segment.close()
            if self._journal is not None:
                os.close(self._journal)
            self._segments, self._journal = [], None

    def find(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The answers that are known."""
        with self._lock:
            wanted = dict.fromkeys(keys)
            found = {key: self._own[key] for key in wanted if key in self._own}
            for segment in self._segments:
                left = [bytes.fromhex(key) for key in wanted if key not in found]
                for first in range(0, len(left), AT_ONCE):
                    some = left[first : first + AT_ONCE]
                    query = f"SELECT key, text, cut FROM answers WHERE key IN ({','.join('?' * len(some))})"
                    found |= {key.hex(): Answer(text, bool(cut)) for key, text, cut in segment.execute(query, some)}
            return found

    def put(self, answers: dict[str, Answer]) -> None:
        """Keep answers, all of them or, where the process is killed just now, none. Errors: a folder that takes no file."""
        lines = [json.dumps({"key": key, "text": one.text, "cut": one.cut}) for key, one in answers.items()]
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._lock:
            try:
                if self._journal is None:
                    self._journal = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                    if os.fstat(self._journal).st_size:
                        data = b"\n" + data  # a full disk may have cut the last line
                if os.write(self._journal, data) != len(data):
                    raise OSError("the disk is full")
            except OSError as error:
                raise cannot_write(self._path, error) from error
            self._own |= answers


def _news(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Journal -> (where its last whole line ends, the whole lines that are in no segment). Errors: a segment that cannot be read."""
    known: dict[str, int] = {}
    for segment in _open_all(folder):
        with closing(segment) as table:
            for name, end in table.execute("SELECT name, size FROM journals"):
                known[name] = max(end, known.get(name, 0))
    news = {}
    for journal in sorted(folder.glob(f"*{JOURNAL}")):
        start = known.get(journal.name, 0)
        if journal.stat().st_size > start:
            with journal.open("rb") as file:
                file.seek(start)
                data = file.read()
            if whole := data.rfind(b"\n") + 1:
                news[journal.name] = start + whole, data[:whole]
    return news


def _write_segment(folder: Path, news: dict[str, tuple[int, bytes]]) -> None:
    """Processes that do so at the same time write the same file. Errors: a folder that takes no file."""
    own = digest(*(f"{name} {end} {len(data)}" for name, (end, data) in news.items()))[:16]
    with atomic(folder / f"segment-{own}{SEGMENT}") as temporary, closing(sqlite3.connect(temporary)) as made:
        made.executescript(_TABLES)
        for name, (end, data) in news.items():
            rows = ((bytes.fromhex(key), answer.text, answer.cut) for key, answer in _lines(data))
            made.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", rows)
            made.execute("INSERT INTO journals VALUES (?, ?)", (name, end))
        made.commit()
    while some := _alike(folder):
        if not _merge(folder, some):
            return


def _alike(folder: Path) -> list[Path]:
    """Segments that should become one: MERGED of those whose sizes are within a factor of eight; none if there are not so many."""
    groups: dict[int, list[Path]] = {}
    for segment in _segments(folder):
        with contextlib.suppress(FileNotFoundError):
            groups.setdefault(segment.stat().st_size.bit_length() // 3, []).append(segment)
    return next((group[:MERGED] for _, group in sorted(groups.items()) if len(group) >= MERGED), [])


def _merge(folder: Path, some: list[Path]) -> bool:
    """Write one segment in place of several; False where another process has done so. Errors: a folder that takes no file."""
    own = digest(*(segment.name for segment in some))[:16]
    try:
        with atomic(folder / f"segment-{own}{SEGMENT}") as temporary, closing(sqlite3.connect(temporary)) as made:
            made.executescript(_TABLES)
            for segment in some:
                with closing(_open(segment)) as table:
                    made.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", table.execute("SELECT key, text, cut FROM answers"))
                    # of a journal that several segments have parts of, the later end comes to stay
                    made.executemany(_LATER, table.execute("SELECT name, size FROM journals"))
            made.commit()
    except _Gone:
        return False
    for segment in some:
        segment.unlink(missing_ok=True)
    return True


def _lines(data: bytes) -> Iterator[tuple[str, Answer]]:
    """The answers in a journal. A line that is not whole, as a killed process leaves it, is no answer."""
    for line in data.split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            key, text, cut = found["key"], found["text"], found["cut"]
            if len(bytes.fromhex(key)) == 16 and isinstance(text, str):
                yield key, Answer(text, bool(cut))


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"segment-*{SEGMENT}"))


def _open_all(folder: Path) -> list[sqlite3.Connection]:
    """All segments to read. Errors: a segment that cannot be read."""
    for _ in range(TRIES):
        opened: list[sqlite3.Connection] = []
        try:
            opened.extend(map(_open, _segments(folder)))
            return opened
        except _Gone:
            for table in opened:
                table.close()
    raise UserError("other processes change it all the time", where=folder, fix="Give the command again.")


def _open(segment: Path) -> sqlite3.Connection:
    """A segment to read. It never changes, so nothing is locked. Errors: it is none; _Gone."""
    table: sqlite3.Connection | None = None
    try:
        table = sqlite3.connect(f"{segment.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
        table.execute("SELECT name FROM journals LIMIT 1").fetchall()
    except sqlite3.DatabaseError as error:
        if table is not None:
            table.close()
        if not segment.exists():
            raise _Gone from error
        fix = "Delete it: it is made again from the files beside it."
        raise UserError(f"it cannot be read ({error})", where=segment, fix=fix) from error
    return table
