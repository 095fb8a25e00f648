"""Which kind of source a name means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.archives import ShardSource
from tips_bench.corpus.sources.base import Source
from tips_bench.corpus.sources.folders import FolderSource
from tips_bench.corpus.sources.links import program
from tips_bench.corpus.sources.saved import FILES, SavedSource
from tips_bench.corpus.sources.tables import SUFFIXES, Columns, TableSource
from tips_bench.corpus.store import BEGUN, MANIFEST
from tips_bench.errors import UserError
from tips_bench.training.shard_files import is_remote, patiently, shard_path
from tips_bench.training.shards import expand_shards

FIX = f"Give a folder of images, shards (.tar) or Parquet files, a pattern of shards, or a file with links ({', '.join(SUFFIXES)})."


def open_source(name: str, columns: Columns, split: str | None = None) -> Source:
    """The source that a path, a URL or a pattern of shards names. split: of a saved data set.

    Errors: nothing is there; it is no source; what reads it is not installed.
    """
    if name.endswith(".tar"):
        return ShardSource(expand_shards([name]), [])
    path = shard_path(name)
    if name.lower().endswith(SUFFIXES):
        return _tables([path], columns)
    if is_remote(path):
        return _remote(path, columns)
    if not path.exists():
        raise UserError("there is no such file or folder", where=name, fix=FIX)
    if not path.is_dir():
        raise UserError("this kind of file is no source", where=name, fix=FIX)
    if any((path / one).is_file() for one in (MANIFEST, BEGUN)) or any(path.glob("*.tar")):
        return ShardSource.of_folder(path)
    if any((path / one).is_file() for one in FILES):
        return SavedSource(path, columns, split)
    if tables := sorted(path.rglob("*.parquet")):
        return _tables(tables, columns)
    return FolderSource(path)


def _remote(path: Any, columns: Columns) -> Source:
    """A folder in object storage, or a data set of a hub: its shards, or its Parquet files."""
    for suffix in ("tar", "parquet"):
        found = patiently(path, lambda suffix=suffix: sorted(path.fs.glob(f"{path.path.rstrip('/')}/**/*.{suffix}")))  # type: ignore[misc]
        if found:
            files = [shard_path(f"{path.protocol}://{name.lstrip('/')}") for name in found]
            return ShardSource(files, []) if suffix == "tar" else _tables(files, columns)
    raise UserError("no shards (.tar) and no Parquet files are there", where=path, fix=FIX)


def _tables(files: list[Path], columns: Columns) -> Source:
    source = TableSource(files, columns)
    if source.columns.image is None:
        program()  # before anything is written
    return source
