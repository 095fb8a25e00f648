"""Where the samples of a shard begin: kept in a small file, four bytes a sample.

With it a reader knows how many samples a shard holds, and reads those that are its own and nothing else. `tips-bench corpus` writes it
beside each shard, as SHARD.tar.index. For other shards it is made once from their headers, and lies in the cache folder of tips-bench,
under a hash of the shard's place. One that speaks of another size, or on a disk is older than its shard, does not count.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from webdataset.tariterators import base_plus_ext

from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.files import atomic, digest, shown
from tips_bench.progress import bar
from tips_bench.training.shard_files import is_remote, patiently

BLOCK = tarfile.BLOCKSIZE
SCHEMA = "tips-bench/shard-index/1"
LONGEST_HEAD = 1 << 12  # bytes of the first line
CACHE = "shard-indexes"
TIME = re.compile(rb"(\d+) [acm]time=[0-9.]+\n")  # of an extended header
THREADS = 16  # that read headers; they wait more than they compute
READ_AHEAD = 4096  # bytes, of a shard in object storage: captions and the next header in one request
Stat = tuple[int, int]
"""Of a shard: its size in bytes, and when it was changed, in nanoseconds since 1970; 0 in object storage."""
ItemT = TypeVar("ItemT")
FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Entry:
    """A sample's place in its shard. members: extension in lower case -> (offset, size) in bytes. twice: an extension came again.

    start: where its first header is.
    """

    key: str
    members: dict[str, tuple[int, int]]
    twice: bool
    start: int = field(default=0, compare=False)


@dataclass(frozen=True)
class ShardIndex:
    """starts_N1: uint32, the block of 512 bytes at which each sample begins and, last, where the archive ends.

    shard_bytes: the size of the shard. broken: why it cannot be used, "" = it can.
    """

    starts_N1: np.ndarray
    shard_bytes: int
    broken: str = ""

    @property
    def samples(self) -> int:
        return len(self.starts_N1) - 1

    def span(self, sample: int) -> tuple[int, int]:
        """(offset, size) in bytes of a sample's headers and members."""
        first, behind = (int(block) * BLOCK for block in self.starts_N1[sample : sample + 2])
        return first, behind - first


def index_shard(path: Path) -> list[Entry]:
    """Where each sample of a shard lies, from the headers alone. Errors: not a tar file, a compressed, broken or truncated one."""
    return _scan(path)[0]


def entries_of(file: IO[bytes]) -> tuple[list[Entry], int]:
    """The samples of an open archive, and where it ends. Errors: tarfile's."""
    entries: list[Entry] = []
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.size < 0:  # would lead tarfile round in a circle
                raise tarfile.ReadError(f"{member.name!r} has a negative size")
            if member.isfile():
                _add(entries, shown(member.name), member.offset, member.offset_data, member.size)
        return entries, tar.offset


def entries_in(data: bytes) -> list[Entry]:
    """As `entries_of`, of whole members in memory. Errors: tarfile's.

    Headers of files with short names are read here, since tarfile takes several times as long.
    """
    entries: list[Entry] = []
    start = 0
    while start < len(data):
        member = _plain_member(data, start)
        if member is None:
            return entries_of(io.BytesIO(data))[0]
        name, content, size = member
        _add(entries, name, start, content, size)
        start = _behind(content, size)
    return entries


def _plain_member(data: bytes, start: int) -> tuple[str, int, int] | None:
    """(name, where its content is, size) of the file at `start`. None where tarfile must look: another kind of member, or a damaged one."""
    kind, name, size = _header(data[start : start + BLOCK])
    if kind == tarfile.XHDTYPE:  # webdataset writes one for each file, with its time
        records = data[start + BLOCK : start + BLOCK + size]
        if not _are_times(records):
            return None
        start = _behind(start + BLOCK, size)
        kind, name, size = _header(data[start : start + BLOCK])
    if kind != tarfile.REGTYPE or _behind(start + BLOCK, size) > len(data):
        return None
    return name, start + BLOCK, size


def _are_times(records: bytes) -> bool:
    """Whether an extended header says nothing but times, each record with its own length before it (POSIX.1-2001, pax)."""
    place = 0
    while place < len(records):
        found = TIME.match(records, place)
        if found is None or int(found[1]) != found.end() - place:
            return False
        place = found.end()
    return True


def _header(block: bytes) -> tuple[bytes, str, int]:
    """(kind, name, size) as a header of ustar says them (POSIX.1-1988); kind b"" where it is none with a short ASCII name."""
    name, checked = block[:100], block[148:156]
    if block[257:262] != b"ustar" or block[345:346] != b"\0" or not name.isascii():
        return b"", "", 0
    try:
        size, checksum = int(block[124:136].rstrip(b" \0"), 8), int(checked.rstrip(b" \0"), 8)
    except ValueError:  # a size that is too large for octal digits
        return b"", "", 0
    if size < 0 or checksum != sum(block) - sum(checked) + 8 * ord(" "):
        return b"", "", 0
    return block[156:157], name.partition(b"\0")[0].decode(), size


def _behind(content: int, size: int) -> int:
    """Where a member ends: contents are filled up to whole blocks."""
    return content + -(-size // BLOCK) * BLOCK


def stat_of(path: Path) -> Stat:
    """Errors: a shard that cannot be read."""
    stat = patiently(path, path.stat)
    return stat.st_size, getattr(stat, "st_mtime_ns", 0)


def stats_of(paths: Iterable[Path]) -> list[Stat]:
    """Those of many shards, several at a time, with a bar. Errors: that of the first that has one."""
    return _of_each(stat_of, list(paths))


def load_index(path: Path, *, skip_broken: bool = False, stat: Stat | None = None) -> ShardIndex:
    """The index of a shard, made now where there is none. stat: as `stat_of` gives it, where that is known.

    Errors: a shard that cannot be read; a broken one, unless it is to be skipped.
    """
    size, changed_ns = stat or stat_of(path)
    index = _read(index_file(path), size, changed_ns) or _beside(path, size, changed_ns) or _make(path, size)
    if index.broken and not skip_broken:
        fix = "Write or download the shard again, remove it from data.shards, or leave out such shards with data.broken_shards=skip."
        raise UserError(f"not a complete, uncompressed tar file ({index.broken})", where=path, fix=fix)
    return index


def load_indexes(paths: Sequence[Path], *, skip_broken: bool = False, stats: Sequence[Stat] | None = None) -> list[ShardIndex]:
    """Those of many shards, several at a time, with a bar. stats: of each, where they are known.

    Errors: those of the first that has one.
    """
    known = list(zip(paths, [None] * len(paths) if stats is None else stats, strict=True))
    return _of_each(lambda one: load_index(one[0], skip_broken=skip_broken, stat=one[1]), known)


def _of_each(find: Callable[[ItemT], FoundT], items: Sequence[ItemT]) -> list[FoundT]:
    with ThreadPoolExecutor(THREADS) as threads, bar("shards", len(items), "shards") as advance:
        found = []
        for one in threads.map(find, items):
            found.append(one)
            advance()
        return found


def _scan(path: Path) -> tuple[list[Entry], int]:
    try:
        return patiently(path, lambda: _whole_archive(path))
    except tarfile.TarError as error:
        raise UserError(
            f"not a complete, uncompressed tar file ({error})",
            where=path,
            fix="Write or download the shard again, or remove it from data.shards.",
        ) from error


def _whole_archive(path: Path) -> tuple[list[Entry], int]:
    with _opened(path) as file:
        entries, end = entries_of(cast(IO[bytes], file))
        file.seek(end)
        # tarfile takes an unreadable header for the end; a whole archive ends with a block of zeros.
        if file.read(BLOCK) != bytes(BLOCK):
            raise tarfile.ReadError(f"no valid header and no end of the archive at byte {end}")
    return entries, end


def _opened(path: Any) -> Any:
    """A shard to read headers of: in object storage by small ranges, so that images are passed over."""
    return path.fs.open(path.path, "rb", block_size=READ_AHEAD, cache_type="readahead") if is_remote(path) else path.open("rb")


def _add(entries: list[Entry], name: str, start: int, data: int, size: int) -> None:
    """A file whose header is at `start` and whose content is at `data`."""
    key, extension = base_plus_ext(name)
    if key is None:
        return
    if not entries or entries[-1].key != key:
        entries.append(Entry(key, {}, False, start))
    last, extension = entries[-1], extension.lower()
    entries[-1] = Entry(key, last.members | {extension: (data, size)}, last.twice or extension in last.members, last.start)


def _make(path: Path, size: int) -> ShardIndex:
    try:
        entries, end = _scan(path)
        blocks = np.array([*(entry.start for entry in entries), end], np.int64) // BLOCK
        index = ShardIndex(blocks.astype(np.uint32), size)
    except UserError as error:
        if not isinstance(error.__cause__, tarfile.TarError):
            raise
        index = ShardIndex(np.zeros(1, np.uint32), size, str(error.__cause__))
    _keep(path, index)
    return index


def _keep(path: Path, index: ShardIndex) -> None:
    with suppress(UserError, OSError):  # a folder that takes no file; without an index the headers are read again
        _write(index_file(path), index)


def _beside(path: Any, size: int, changed_ns: int) -> ShardIndex | None:
    """The index beside a shard; of one in object storage it is kept, for the other processes of this machine."""
    if not is_remote(path):
        return _read(file_beside(path), size, changed_ns)
    with suppress(UserError, ValueError):
        file = io.BytesIO(patiently(path, lambda: path.fs.cat_file(f"{path.path}.index")))
        if index := _parsed(file.readline(LONGEST_HEAD), file, size):
            _keep(path, index)
            return index
    return None


def write_beside(path: Path, starts: Sequence[int]) -> None:
    """Write the index beside a shard that is whole. starts: the byte at which each sample begins and, last, where the archive ends."""
    _write(file_beside(path), ShardIndex((np.array(starts, np.int64) // BLOCK).astype(np.uint32), path.stat().st_size))


def file_beside(path: Path) -> Path:
    """Where the index lies that was written with a shard."""
    return path.with_name(f"{path.name}.index")


def index_file(path: Path) -> Path:
    """Where the index lies that was made of a shard."""
    return cache_root() / CACHE / f"{digest(str(path if is_remote(path) else path.resolve()))}.index"


def _write(file: Path, index: ShardIndex) -> None:
    head = json.dumps({"schema": SCHEMA, "shard_bytes": index.shard_bytes, "samples": index.samples, "broken": index.broken[:500]}).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary, temporary.open("wb") as out:
        out.write(head + b" " * (-(len(head) + 1) % 4) + b"\n")
        out.write(index.starts_N1.astype("<u4").tobytes())


def _read(file: Path, size: int, changed_ns: int) -> ShardIndex | None:
    """The index of a shard in a file; None where there is none, or none of the shard as it is now."""
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mtime_ns < changed_ns:
                return None
            return _parsed(opened.readline(LONGEST_HEAD), opened, size)
    except (OSError, ValueError):
        return None


def _parsed(head: bytes, file: Any, size: int) -> ShardIndex | None:
    """Errors: ValueError of a head that is no JSON."""
    said = json.loads(head)
    if not isinstance(said, dict) or said.get("schema") != SCHEMA or said.get("shard_bytes") != size:
        return None
    samples, broken = said.get("samples"), said.get("broken")
    if not isinstance(samples, int) or not 0 <= samples <= size // BLOCK or not isinstance(broken, str):
        return None
    starts_N1 = np.frombuffer(file.read(4 * (samples + 1)), "<u4")
    whole = len(starts_N1) == samples + 1 and (np.diff(starts_N1.astype(np.int64)) > 0).all() and int(starts_N1[-1]) * BLOCK <= size
    return ShardIndex(starts_N1, size, broken) if whole else None
