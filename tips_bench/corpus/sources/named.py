"""Which source a name means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tips_bench.corpus.sources.archives import ShardSource
from tips_bench.corpus.sources.base import LOOKED_AT, OTHERS, Source
from tips_bench.corpus.sources.folders import FolderSource
from tips_bench.corpus.sources.hub_readme import LONGEST, README, as_stated
from tips_bench.corpus.sources.links import Manner, program
from tips_bench.corpus.sources.metadata import NAMES
from tips_bench.corpus.sources.saved import FILES, SavedSource
from tips_bench.corpus.sources.splits import by_names, chosen
from tips_bench.corpus.sources.tables import Columns, TableSource, has_images
from tips_bench.corpus.store import BEGUN, IMAGES, MANIFEST
from tips_bench.errors import UserError
from tips_bench.journal import warn
from tips_bench.strict import Strict
from tips_bench.training.shard_files import is_remote, patiently, shard_path
from tips_bench.training.shards import TABLES, expand_shards, table_kind
from tips_bench.wording import counted

FIX = f"Give a folder of images, shards (.tar) or Parquet files, a pattern of shards, or a file with links ({', '.join(TABLES)})."

PICTURES = tuple(f".{extension}" for extension in (*IMAGES, *OTHERS))


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
        return ShardSource.of_files(expand_shards([name]), asked.columns.caption)
    if table_kind(name) and (is_remote(path) or not path.is_dir()):
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
    return _in_folder(path, asked)


def _in_folder(path: Path, asked: Asked) -> Source:
    """What lies below a folder on a disk, in object storage or of a hub. Images that are there are taken before links to images."""
    below = _below(path)
    if below.shards:
        if below.images:
            warn(f"{path} holds shards, which are taken, and {counted(below.images, 'image')} outside of them, which are not")
        return ShardSource.of_files(_chosen(below.shards, asked, path), asked.columns.caption)
    if not is_remote(path) and any((path / one).is_file() for one in FILES):
        _refuse_choice(asked.model_copy(update={"split": None}), str(path))
        return SavedSource(path, asked.columns, asked.split)
    if below.tables and (not below.images or _meant(below.tables, asked)):
        return _tables(_chosen(below.tables, asked, path), asked)
    if lists := [table for table in below.tables if table.name not in NAMES]:
        said = f"{path} holds {counted(below.images, 'image')}, and {counted(len(lists), 'Parquet file')} without images"
        warn(f"{said}: the images are taken. For links in such files, name their column with --url-column.")
    _refuse_choice(asked, str(path))
    if is_remote(path):
        what = "a folder of images is read on a disk only" if below.images else "no shards (.tar) and no Parquet files are there"
        raise UserError(what, where=path, fix="Copy the folder to a disk." if below.images else FIX)
    return FolderSource(path, asked.columns.caption)


def _meant(tables: Sequence[Path], asked: Asked) -> bool:
    """Whether tables with images beside them are what is wanted: by a column that is named, or for images of their own."""
    named = asked.columns.link or asked.columns.image
    return named is not None or any(has_images(table) for table in tables[:LOOKED_AT])


class _Below(NamedTuple):
    """What lies below a folder. images: the number of their files."""

    shards: list[Path]
    tables: list[Path]
    images: int


def _below(folder: Any) -> _Below:
    """Without the shards of corpora, which may be made there of this folder, unless there is nothing else. Errors: no answer."""
    shards, tables, corpora, images = list[str](), list[str](), list[str](), 0
    for name in _files(folder):
        if name.endswith(".tar"):
            shards.append(name)
        elif name.endswith((f"/{MANIFEST}", f"/{BEGUN}")):
            corpora.append(name.rpartition("/")[0] + "/")
        elif table_kind(name) == ".parquet":
            tables.append(name)
        else:
            images += name.lower().endswith(PICTURES)
    others = [name for name in shards if not name.startswith(tuple(corpora))]
    return _Below(_paths(folder, others if others or tables or images else shards), _paths(folder, tables), images)


def _files(folder: Any) -> Iterable[str]:
    """All below a folder, as its storage writes them, with slashes."""
    if is_remote(folder):
        return patiently(folder, lambda: list(folder.fs.find(folder.path.rstrip("/"))))
    return (os.path.join(inner, name).replace(os.sep, "/") for inner, _, names in os.walk(folder) for name in names)


def _paths(folder: Any, names: list[str]) -> list[Path]:
    if is_remote(folder):
        return [shard_path(f"{folder.protocol}://{name.lstrip('/')}") for name in sorted(names)]
    return sorted(map(Path, names))


def _listed(folder: Any) -> set[str]:
    """The names of what lies right in a folder. Errors: storage that does not answer."""
    if not is_remote(folder):
        return {path.name for path in folder.iterdir()}

    def look() -> list[str]:
        with suppress(FileNotFoundError):
            return list(folder.fs.ls(folder.path, detail=False))
        return []

    return {name.rstrip("/").rpartition("/")[2] for name in patiently(folder, look)}


def _named(folder: Any, files: Sequence[Any]) -> list[str]:
    """Paths below a folder; below the one that they share where a hub writes the folder in another way, as it does with revisions."""
    if not is_remote(folder):
        return [file.relative_to(folder).as_posix() for file in files]
    root, names = folder.path.rstrip("/"), [file.path for file in files]
    inside = root if all(name.startswith(f"{root}/") for name in names) else os.path.commonpath([os.path.dirname(name) for name in names])
    return [name.removeprefix(inside).lstrip("/") for name in names]


def _chosen(files: Sequence[Path], asked: Asked, folder: Path) -> list[Path]:
    """The files of the split and the configuration that are asked for."""
    names, readme, parts = _named(folder, files), folder / README, None
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
