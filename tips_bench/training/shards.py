"""Image-text samples from tar shards, in an order that a seed decides and a small cursor resumes.

A shard is a tar file as webdataset writes it: members that stand together and share a name up to its first dot are one sample.
Shards are read in place and at random, so they must lie on a file system and not be compressed.

In each epoch the shards are permuted; successive ones are pooled until they hold `shuffle` samples, and a pool's samples are permuted.
All ranks see this one order, and rank r of n takes the samples whose number, counted since the start of the run, is r modulo n: every
sample comes once an epoch, however many ranks, workers and shards there are.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from webdataset.shardlists import expand_urls
from webdataset.tariterators import base_plus_ext

from tips_bench.errors import UserError
from tips_bench.files import digest

BLOCK = tarfile.BLOCKSIZE
MAX_MEMBER = 64 << 20  # bytes; nothing larger is an image or a caption
_SHARDS, _POOL = 0, 1  # which stream of random numbers


class SampleFault(Exception):
    """Why a sample cannot be used; it is skipped and counted under this name."""


class Cursor(NamedTuple):
    """A place in the order. epoch; shard: the first of the pool, in the epoch's permutation; offset in the pool; samples drawn so far."""

    epoch: int = 0
    shard: int = 0
    offset: int = 0
    drawn: int = 0


@dataclass(frozen=True)
class Entry:
    """A sample's place in its shard. members: extension in lower case -> (offset, size) in bytes. twice: an extension came again."""

    key: str
    members: dict[str, tuple[int, int]]
    twice: bool


@dataclass(frozen=True)
class Draw:
    """A sample that is due, to be read before the next is drawn.

    number: of draws before it, on all ranks, since the start of the run. after: the cursor behind it.
    """

    number: int
    after: Cursor
    path: Path
    entry: Entry
    file: IO[bytes]

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
                try:
                    self.file.seek(offset)
                    read[extension] = self.file.read(size)
                except OSError as error:
                    raise _unreadable(self.path, error) from error
                if len(read[extension]) != size:
                    raise UserError("the shard was changed during training", where=self.path, fix="Resume when the file is complete.")
        return read

    @property
    def name(self) -> str:
        return f"{self.path.name}: {self.entry.key}"


def expand_shards(patterns: list[str]) -> list[Path]:
    """The files that patterns with braces or wildcards name, in their order. Errors: none named, a file missing, one named twice."""
    names = [str(Path(os.path.expanduser(name))) for pattern in patterns for name in expand_urls(pattern)]
    paths = [Path(found) for name in names for found in (sorted(glob(name)) or [name])]
    if not paths:
        raise UserError(
            "the list of shards is empty", where="data.shards", fix="For example: --set data.shards='rooms/train-{000..031}.tar'."
        )
    missing = [path for path in paths if not path.is_file()]
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


def index_shard(path: Path) -> list[Entry]:
    """Where each sample of a shard lies, from the headers alone. Errors: not a tar file, a compressed, broken or truncated one."""
    entries: list[Entry] = []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.size < 0:  # would lead tarfile round in a circle
                    raise tarfile.ReadError(f"{member.name!r} has a negative size")
                _add(entries, member)
            file.seek(tar.offset)
            # tarfile takes an unreadable header for the end; a whole archive ends with a block of zeros.
            if file.read(BLOCK) != bytes(BLOCK):
                raise tarfile.ReadError(f"no valid header and no end of the archive at byte {tar.offset}")
    except tarfile.TarError as error:
        raise UserError(
            f"not a complete, uncompressed tar file ({error})",
            where=path,
            fix="Write or download the shard again, or remove it from data.shards.",
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    return entries


def _add(entries: list[Entry], member: tarfile.TarInfo) -> None:
    key, extension = base_plus_ext(member.name)
    if not member.isfile() or key is None:
        return
    if not entries or entries[-1].key != key:
        entries.append(Entry(key, {}, False))
    last, extension = entries[-1], extension.lower()
    entries[-1] = Entry(key, last.members | {extension: (member.offset_data, member.size)}, last.twice or extension in last.members)


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"the shard cannot be read ({error.strerror or error})", where=path, fix="Check the file and its permissions.")


class ShardOrder:
    """The order in which a run draws samples from shards. shuffle: samples that are pooled to be permuted."""

    def __init__(self, paths: list[Path], *, seed: int, shuffle: int) -> None:
        self.paths, self.seed, self.shuffle = paths, seed, shuffle

    def identity(self) -> str:
        """Hex SHA-256 of what decides the order: names and sizes of the shards in the order given, seed, shuffle."""
        return digest(self.seed, self.shuffle, *(f"{path.name} {path.stat().st_size}" for path in self.paths))

    def draws(self, cursor: Cursor, rank: int = 0, world: int = 1) -> Iterator[Draw]:
        """The samples of one of `world` ranks behind a cursor, without end. Errors: those of `index_shard`; no sample in any shard."""
        epoch, shard, offset, drawn = cursor
        while True:
            order = np.random.default_rng([self.seed, _SHARDS, epoch]).permutation(len(self.paths))
            held = 0
            while shard < len(order):
                with ExitStack() as files:
                    pool, after = self._pool(order, shard, files)
                    shuffled = np.random.default_rng([self.seed, _POOL, epoch, shard]).permutation(len(pool))
                    for place in range(offset + (rank - drawn) % world, len(pool), world):
                        number = drawn + place - offset
                        yield Draw(number, Cursor(epoch, shard, place + 1, number + 1), *pool[shuffled[place]])
                held, drawn = held + len(pool), drawn + len(pool) - offset
                shard, offset = after, 0
            if not held:
                raise UserError("the shards hold no samples", where=self.paths[0], fix="Name shards with images and captions.")
            epoch, shard = epoch + 1, 0

    def _pool(self, order: np.ndarray, shard: int, files: ExitStack) -> tuple[list[tuple[Path, Entry, IO[bytes]]], int]:
        """The samples of enough shards from `shard` on, and the number of the shard behind them."""
        pool: list[tuple[Path, Entry, IO[bytes]]] = []
        while shard < len(order) and len(pool) < self.shuffle:
            path = self.paths[order[shard]]
            entries = index_shard(path)
            try:
                file = files.enter_context(path.open("rb"))
            except OSError as error:
                raise _unreadable(path, error) from error
            pool += [(path, entry, file) for entry in entries]
            shard += 1
        return pool, shard
