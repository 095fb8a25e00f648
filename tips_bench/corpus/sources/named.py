"""Which source a name means."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.archives import ShardSource
from tips_bench.corpus.sources.base import Source
from tips_bench.corpus.sources.folders import FolderSource
from tips_bench.corpus.sources.hub_readme import LONGEST, README, as_stated
from tips_bench.corpus.sources.links import Manner, program
from tips_bench.corpus.sources.saved import FILES, SavedSource
from tips_bench.corpus.sources.splits import by_names, chosen
from tips_bench.corpus.sources.tables import Columns, TableSource
from tips_bench.corpus.store import BEGUN, MANIFEST
from tips_bench.errors import UserError
from tips_bench.strict import Strict
from tips_bench.training.shard_files import is_remote, patiently, shard_path
from tips_bench.training.shards import TABLES, table_kind

FIX = f"Give a folder of images, shards (.tar) or Parquet files, a pattern of shards, or a file with links ({', '.join(TABLES)})."


class Asked(Strict):
    """What a user says of a source. split, config: of a data set that has several."""

    columns: Columns = Columns()
    links: Manner = Manner()
    split: str | None = None
    config: str | None = None

    def options(self) -> dict[str, object]:
        """The values by their options of `corpus fetch`, beside those that choose files."""
        columns = {
            "--url-column": self.columns.link,
            "--caption-column": self.columns.caption,
            "--image-column": self.columns.image,
        }
        return {**columns, **self.links.options()}


def open_source(name: str, asked: Asked) -> Source:
    """The source that a path, a URL or a pattern of shards names.

    Errors: nothing is there; it is no source; what reads it is not installed; an option says nothing about such a source.
    """
    asked.links.check()
    source = _opened(name, asked)
    for option, value in asked.options().items():
        if value is not None and option not in source.options:
            fix = f"Leave it out. Such a source takes {', '.join(source.options)}."
            raise UserError(f"{option} says nothing about this kind of source", where=name, fix=fix)
    return source


def _opened(name: str, asked: Asked) -> Source:
    path = shard_path(name)
    if name.endswith(".tar"):
        _refuse_choice(asked, name)
        return ShardSource.of_pattern(name, asked.columns.caption)
    if table_kind(name):
        _refuse_choice(asked, name)
        return _tables([path], asked)
    if not is_remote(path):
        if not path.exists():
            raise UserError("there is no such file or folder", where=name, fix=FIX)
        if not path.is_dir():
            raise UserError("this kind of file is no source", where=name, fix=FIX)
    if {MANIFEST, BEGUN} & _listed(path):
        _refuse_choice(asked, name)
        return ShardSource.of_corpus(path, asked.columns.caption)
    return _remote(path, asked) if is_remote(path) else _local(path, asked)


def _local(path: Path, asked: Asked) -> Source:
    if shards := sorted(path.glob("*.tar")):
        return ShardSource(_chosen(shards, [shard.name for shard in shards], asked, path), [], asked.columns.caption)
    if any((path / one).is_file() for one in FILES):
        _refuse_choice(asked.model_copy(update={"split": None}), str(path))
        return SavedSource(path, asked.columns, asked.split)
    if tables := sorted(path.rglob("*.parquet")):
        return _tables(_chosen(tables, [table.relative_to(path).as_posix() for table in tables], asked, path), asked)
    _refuse_choice(asked, str(path))
    return FolderSource(path, asked.columns.caption)


def _remote(path: Any, asked: Asked) -> Source:
    """A folder in object storage, or a data set of a hub: its shards, or its Parquet files."""
    root = path.path.rstrip("/")
    for suffix in ("tar", "parquet"):
        found = patiently(path, lambda suffix=suffix: sorted(path.fs.glob(f"{root}/**/*.{suffix}")))  # type: ignore[misc]
        if found:
            files = [shard_path(f"{path.protocol}://{name.lstrip('/')}") for name in found]
            own = _chosen(files, _below(root, found), asked, path)
            return ShardSource(own, [], asked.columns.caption) if suffix == "tar" else _tables(own, asked)
    raise UserError("no shards (.tar) and no Parquet files are there", where=path, fix=FIX)


def _listed(folder: Any) -> set[str]:
    """The names of what lies right in a folder. Errors: storage that does not answer."""
    if not is_remote(folder):
        return {path.name for path in folder.iterdir()}

    def look() -> list[str]:
        with suppress(FileNotFoundError):
            return list(folder.fs.ls(folder.path, detail=False))
        return []

    return {name.rstrip("/").rpartition("/")[2] for name in patiently(folder, look)}


def _below(root: str, names: Sequence[str]) -> list[str]:
    """Paths below a folder; below the one that they share where a hub writes the folder in another way, as it does with revisions."""
    inside = root if all(name.startswith(f"{root}/") for name in names) else os.path.commonpath([os.path.dirname(name) for name in names])
    return [name.removeprefix(inside).lstrip("/") for name in names]


def _chosen(files: Sequence[Path], names: Sequence[str], asked: Asked, folder: Path) -> list[Path]:
    """The files of the split and the configuration that are asked for. names: of the files, below the folder."""
    readme, parts = folder / README, None
    if README in _listed(folder):
        with patiently(readme, lambda: readme.open("rb")) as file:
            parts = as_stated(file.read(LONGEST).decode("utf-8", "replace"), names, folder)
    own = set(chosen(parts or by_names(names), asked.split, asked.config, folder))
    return [file for file, name in zip(files, names, strict=True) if name in own]


def _refuse_choice(asked: Asked, name: str) -> None:
    for option, value in (("--split", asked.split), ("--config", asked.config)):
        if value is not None:
            fix = "Leave it out, and give the folder or the files that are meant."
            raise UserError(f"{option} says nothing about this kind of source", where=name, fix=fix)


def _tables(files: list[Path], asked: Asked) -> Source:
    source = TableSource(files, asked.columns, asked.links)
    if source.columns.image is None:
        program()  # before anything is written
    return source
