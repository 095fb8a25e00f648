"""Image-text samples from tar shards, in an order that a seed decides and a small cursor resumes.

A shard is a tar file as webdataset writes it: members that stand together and share a name up to its first dot are one sample.
Shards are read in place and at random, on a file system or in object storage (shard_files.py), and must not be compressed.

In each epoch pieces of shards are permuted: whole shards, or with `mix` so many successive samples. Successive pieces are pooled until they
hold `shuffle` samples, and a pool's samples are permuted. All ranks see this one order, and rank r of n takes the samples whose number,
counted since the start of the run, is r modulo n: every sample comes once an epoch, however many ranks, workers and shards there are. A
rank reads the bytes of its own samples and of indexes (shard_index.py), and nothing of the others.
"""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from webdataset.shardlists import expand_urls

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.training.shard_files import ShardFault, ShardFiles, is_remote, patiently, shard_path
from tips_bench.training.shard_index import Entry, ShardIndex, Stat, entries_in, entries_of, file_beside, index_file, load_indexes

MAX_MEMBER = 64 << 20  # bytes; nothing larger is an image or a caption
MANIFEST, BEGUN = "corpus.json", ".begun.json"  # in the folder of a corpus: a step writes the second first and the first last
TABLES = (".parquet", ".csv", ".tsv", ".jsonl", ".csv.gz", ".tsv.gz", ".jsonl.gz")  # that `corpus fetch` reads
AT_ONCE = 4 << 20  # bytes; of a larger sample only what is asked for is read
_SHARDS, _POOL = 0, 1  # which stream of random numbers


class SampleFault(Exception):
    """Why a sample cannot be used; it is skipped and counted under this name."""


class Cursor(NamedTuple):
    """A place in the order. epoch; piece: the first of the pool, in the epoch's permutation; offset in the pool; samples drawn so far.

    of_sources: where there are several, samples drawn of each; piece and offset are then 0, and the epoch is that of the slowest source.
    """

    epoch: int = 0
    piece: int = 0
    offset: int = 0
    drawn: int = 0
    of_sources: tuple[int, ...] = ()

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Cursor:
        """What `numbers` gave."""
        epoch, piece, offset, drawn, *of_sources = numbers
        return cls(epoch, piece, offset, drawn, tuple(of_sources))

    @property
    def numbers(self) -> list[int]:
        """Plain values, fit for JSON."""
        return [*self[:4], *self.of_sources]


class Pool(NamedTuple):
    """Samples that are permuted together. piece: its first, in the permutation of the epoch. samples_N2: (shard, sample) in their order."""

    epoch: int
    piece: int
    samples_N2: np.ndarray


@dataclass(frozen=True)
class Draw:
    """A sample that is due, to be read before the next is drawn.

    number: of draws before it, on all ranks, since the start of the run. after: the cursor behind it. span: (offset, size) of its bytes.
    """

    number: int
    after: Cursor
    path: Path
    span: tuple[int, int]
    files: ShardFiles = field(compare=False)

    @cached_property
    def entry(self) -> Entry:
        """Its name and members; their offsets are counted from the start of the span. Errors: bytes that are not those of one sample."""
        entries: list[Entry] = []
        reason: Exception | None = None
        try:
            held = self._bytes
            entries = entries_in(held.getvalue()) if isinstance(held, io.BytesIO) else entries_of(held)[0]
        except tarfile.TarError as error:
            reason = error
        if len(entries) != 1 or entries[0].start:
            fix = f"Resume when the shard is complete; if it is, remove its index, {file_beside(self.path)} or {index_file(self.path)}."
            raise ShardFault("the shard was changed, and its index does not fit any more", where=self.path, fix=fix) from reason
        return entries[0]

    def read(self, *extensions: str) -> dict[str, bytes]:
        """The bytes of those of its members that have one of the extensions.

        Errors: the shard has become shorter or cannot be read; SampleFault: a name came twice, a member is too large.
        """
        if self.entry.twice:
            raise SampleFault("a name twice")
        read = {}
        for extension in extensions:
            if extension in self.entry.members:
                offset, size = self.entry.members[extension]
                if size > MAX_MEMBER:
                    raise SampleFault("a member too large")
                self._bytes.seek(offset)
                read[extension] = self._bytes.read(size)
        return read

    @property
    def name(self) -> str:
        return f"{self.path.name}: {self.entry.key}"

    @cached_property
    def _bytes(self) -> Any:
        """The sample as a file: read at once, or, of a large one, where it is looked at."""
        offset, size = self.span
        return io.BytesIO(self.files.read(self.path, offset, size)) if size <= AT_ONCE else _Span(self)


class _Span(io.RawIOBase):
    """A part of a shard as a file that can be read and searched."""

    def __init__(self, draw: Draw) -> None:
        self._draw, self._place = draw, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._draw.span[1]}[whence]
        self._place = base + place
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._draw.span[1] - self._place)
        size = left if size < 0 else min(size, left)
        data = self._draw.files.read(self._draw.path, self._draw.span[0] + self._place, size) if size else b""
        self._place += size
        return data


def expand_shards(patterns: list[str]) -> list[Path]:
    """The files that patterns with braces or wildcards name, in their order.

    Errors: none named, a file missing (of object storage, where it is read), a folder or a table, one named twice; on a disk, one of a
    corpus whose step has not ended.
    """
    paths = [path for pattern in patterns for name in expand_urls(pattern) for path in _named(shard_path(name))]
    if not paths:
        raise UserError(
            "the list of shards is empty", where="data.shards", fix="For example: --set data.shards='rooms/train-{000..031}.tar'."
        )
    for path in paths:
        _check_kind(path)
    for folder in dict.fromkeys(path.parent for path in paths if not is_remote(path)):
        if (folder / BEGUN).is_file() and not (folder / MANIFEST).is_file():
            raise not_ended(folder)
    missing = [path for path in paths if not is_remote(path) and not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(paths)} shards are missing, the first is {missing[0].name}",
            where=missing[0],
            fix="Check the pattern data.shards, and put quotes around braces, so that the shell does not expand them.",
        )
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise UserError("the shard is named twice", where=twice, fix="Name each shard once in data.shards.")
    return paths


def not_ended(folder: Path) -> UserError:
    """The error for a corpus that is not whole yet."""
    fix = "Give its command again: it goes on where it stopped."
    return UserError("the step that makes this corpus has not ended", where=folder, fix=fix)


def table_kind(name: str) -> str | None:
    """Which of TABLES a file is by its name, in any case of letters; None where it is none."""
    return next((kind for kind in TABLES if name.lower().endswith(kind)), None)


def _check_kind(path: Path) -> None:
    """Errors: what is often given in place of shards, and can be made shards of."""
    fetch = f"tips-bench corpus fetch {shlex.quote(str(path))} --to FOLDER."
    if table_kind(path.name):
        raise UserError("this is a table, and data.shards names tar files", where=path, fix=f"Make shards of it, or of its folder: {fetch}")
    if not is_remote(path) and path.is_dir():
        inside = any(path.glob("*.tar"))
        fix = f"Name the shards in it: --set data.shards='{path}/*.tar'." if inside else f"Make shards of it: {fetch}"
        raise UserError("this is a folder, and data.shards names tar files", where=path, fix=fix)


def _named(path: Path) -> list[Path]:
    """What a pattern without braces names; itself where nothing is found."""
    if is_remote(path):
        remote: Any = path
        found = patiently(path, lambda: sorted(remote.fs.glob(remote.path))) if any(mark in str(path) for mark in "*?[") else []
        return [shard_path(f"{remote.protocol}://{name.lstrip('/')}") for name in found] or [path]
    return [Path(name) for name in sorted(glob(str(path)))] or [path]


class ShardOrder:
    """The order in which a run draws samples from shards.

    shuffle: samples that are pooled to be permuted. mix: so many successive samples of a shard stay together; None = all of a shard.
    skip_broken: shards that are no whole tar file are left out; `broken` names them. source: number of the source that it is the order
    of, where there are several; each has an order of its own. stats: of each shard, where they are known.
    """

    def __init__(
        self,
        paths: list[Path],
        *,
        seed: int,
        shuffle: int,
        mix: int | None = None,
        skip_broken: bool = False,
        source: int = 0,
        stats: list[Stat] | None = None,
    ) -> None:
        self.paths, self.seed, self.shuffle, self.mix, self.skip_broken = paths, seed, shuffle, mix, skip_broken
        self._source, self._stats = (source,) if source else (), stats

    @cached_property
    def indexes(self) -> list[ShardIndex]:
        """Of each shard. Errors: a shard that cannot be read, or a broken one that is not to be skipped; no sample in any shard."""
        found = load_indexes(self.paths, skip_broken=self.skip_broken, stats=self._stats)
        if not sum(index.samples for index in found):
            raise UserError("the shards hold no samples", where=self.paths[0], fix="Name shards with images and captions.")
        return found

    @property
    def samples(self) -> int:
        """Of all shards."""
        return sum(index.samples for index in self.indexes)

    @property
    def broken(self) -> list[Path]:
        """Shards that are left out."""
        return [path for path, index in zip(self.paths, self.indexes, strict=True) if index.broken]

    @cached_property
    def identity(self) -> str:
        """Hex SHA-256 of what decides the order: names and sizes of the shards in the order given, seed, shuffle, mix."""
        mixed = [] if self.mix is None else [f"mix {self.mix}"]
        sizes = [f"{path.name} {index.shard_bytes}" for path, index in zip(self.paths, self.indexes, strict=True)]
        return digest(self.seed, self.shuffle, *mixed, *sizes)

    def draws(self, cursor: Cursor, rank: int = 0, world: int = 1) -> Iterator[Draw]:
        """The samples of one of `world` ranks behind a cursor, without end. Errors: those of `indexes`."""
        offset, drawn = cursor.offset, cursor.drawn
        with closing(ShardFiles()) as files:
            for epoch, piece, samples_N2 in self.pools(cursor.epoch, cursor.piece):
                own = range(offset + (rank - drawn) % world, len(samples_N2), world)
                for place, (shard, sample) in zip(own, samples_N2[own.start :: world].tolist(), strict=True):
                    number = drawn + place - offset
                    span = self.indexes[shard].span(sample)
                    yield Draw(number, Cursor(epoch, piece, place + 1, number + 1), self.paths[shard], span, files)
                drawn += len(samples_N2) - offset
                offset = 0

    def pools(self, epoch: int = 0, piece: int = 0) -> Iterator[Pool]:
        """Those from a piece of an epoch on, without end. Errors: those of `indexes`."""
        while True:
            order = np.random.default_rng([self.seed, _SHARDS, epoch, *self._source]).permutation(len(self._pieces))
            while piece < len(order):
                pool_N2, after = self._pool(order, piece)
                shuffled = np.random.default_rng([self.seed, _POOL, epoch, piece, *self._source]).permutation(len(pool_N2))
                yield Pool(epoch, piece, pool_N2[shuffled])
                piece = after
            epoch, piece = epoch + 1, 0

    @cached_property
    def _pieces(self) -> np.ndarray:
        """int64 [P,3]: (shard, first sample, behind its last) of each piece."""
        pieces = []
        for shard, index in enumerate(self.indexes):
            step = self.mix or max(1, index.samples)
            firsts = range(0, index.samples, step) if self.mix else [0]
            pieces += [(shard, first, min(first + step, index.samples)) for first in firsts]
        return np.array(pieces, np.int64).reshape(-1, 3)

    def _pool(self, order: np.ndarray, piece: int) -> tuple[np.ndarray, int]:
        """(shard, sample) [N,2] of enough pieces from `piece` on, and the number of the piece behind them."""
        pool: list[np.ndarray] = []
        held = 0
        while piece < len(order) and held < self.shuffle:
            shard, first, behind = self._pieces[order[piece]]
            samples = np.arange(first, behind)
            pool.append(np.stack([np.full_like(samples, shard), samples], 1))
            held, piece = held + len(samples), piece + 1
        return np.concatenate(pool), piece
