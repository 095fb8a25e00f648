"""Shards that are there: a corpus, or what webdataset, img2dataset and DataComp's tools write; on a disk or in object storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import LOOKED_AT, OTHERS, Found, Refuse, check_caption, full_name, ranges, with_caption
from tips_bench.corpus.store import BEGUN, IMAGES, MANIFEST, Step, as_said, load_manifest, shards_of
from tips_bench.training.shard_files import ShardFiles, shard_path
from tips_bench.training.shard_index import load_index, load_indexes
from tips_bench.training.shards import Cursor, Draw, SampleFault


class ShardSource:
    """The samples of shards in their order. before: the steps that made them. caption: the key of captions in the .json files.

    Errors: those of `load_indexes`; no sample has such a key.
    """

    read = "tips_bench.corpus.sources.archives:read"
    manner: dict[str, Any] = {}
    options: tuple[str, ...] = ("--caption-column",)

    def __init__(self, shards: list[Path], before: list[Step], caption: str | None = None) -> None:
        self.shards, self.before, self.caption = shards, before, caption
        self.indexes = load_indexes(shards)
        check_caption(read, self.parts(LOOKED_AT), caption, shards[0])

    @classmethod
    def of_corpus(cls, folder: Path, caption: str | None = None) -> ShardSource:
        """The shards of a corpus. Errors: those of `load_manifest`."""
        shards = shards_of(folder)
        return cls(shards, _steps_beside(folder, shards), caption)

    @classmethod
    def of_files(cls, shards: list[Path], caption: str | None = None) -> ShardSource:
        """Some shards, with the steps of the corpora that they are part of. Errors: shards of a corpus whose step has not ended."""
        folders = dict.fromkeys(path.parent for path in shards)
        return cls(shards, [step for folder in folders for step in _steps_beside(folder, shards)], caption)

    def identity(self) -> dict[str, Any]:
        """The names, sizes and sample counts of the shards."""
        pairs = zip(self.shards, self.indexes, strict=True)
        shards = [[path.name, index.shard_bytes, index.samples] for path, index in pairs]
        return {"kind": "shards", "shards": shards} | ({"caption": self.caption} if self.caption else {})

    def steps(self) -> list[Step]:
        """Those of the corpus."""
        return self.before

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Ranges of samples of shards."""
        counts = zip(map(full_name, self.shards), (index.samples for index in self.indexes), strict=True)
        yield from ({"ranges": some, "caption": self.caption} for some in ranges(counts, size))


def _steps_beside(folder: Path, shards: list[Path]) -> list[Step]:
    """What was done to those of the shards that are of the corpus in a folder. Errors: those of `load_manifest`."""
    begun = any((folder / name).is_file() for name in (MANIFEST, BEGUN))
    manifest = load_manifest(folder) if begun else None
    own = {path.name for path in shards if path.parent == folder}
    return [] if manifest is None or own.isdisjoint(shard.name for shard in manifest.shards) else manifest.steps


def read(refuse: Refuse, ranges: list[tuple[str, int, int]], caption: str | None) -> Iterator[Found]:
    """The samples of a part. Errors: a shard that was changed or cannot be read."""
    with closing(ShardFiles()) as files:
        for name, first, behind in ranges:
            path = shard_path(name)
            index = load_index(path)
            for sample in range(first, behind):
                yield _found(Draw(sample, Cursor(), path, index.span(sample), files), refuse, caption)


def _found(draw: Draw, refuse: Refuse, caption: str | None) -> Found:
    try:
        members = draw.read(*IMAGES, *OTHERS, "json", "txt")
    except SampleFault as fault:
        return Found(draw.name, fault=str(fault))
    image = next((members[extension] for extension in (*IMAGES, *OTHERS) if extension in members), None)
    said = as_said(members.get("json"), members.get("txt"))
    if image is None:
        return Found(draw.name, fault="no image")
    if said is None:
        return Found(draw.name, fault="broken captions")
    said = with_caption(said, caption)
    return Found(draw.name, image, said, refuse(said) or "")
