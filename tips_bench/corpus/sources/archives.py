"""Shards that are there: a corpus, or what webdataset, img2dataset and DataComp's tools write; on a disk or in object storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import Found, ranges
from tips_bench.corpus.store import IMAGES, Step, as_said, load_manifest, shards_of
from tips_bench.training.shard_files import ShardFiles, is_remote, shard_path
from tips_bench.training.shard_index import load_index, load_indexes
from tips_bench.training.shards import Cursor, Draw, SampleFault


class ShardSource:
    """The samples of shards in their order. Errors: those of `load_indexes`."""

    read = "tips_bench.corpus.sources.archives:read"

    def __init__(self, shards: list[Path], steps: list[Step]) -> None:
        self.shards, self.before = shards, steps
        self.indexes = load_indexes(shards)

    @classmethod
    def of_folder(cls, folder: Path) -> ShardSource:
        """The shards of a corpus, or of a folder of shards. Errors: those of `load_manifest`."""
        manifest = load_manifest(folder)
        return cls(shards_of(folder), manifest.steps if manifest else [])

    def identity(self) -> dict[str, Any]:
        """The names, sizes and sample counts of the shards."""
        pairs = zip(self.shards, self.indexes, strict=True)
        return {"kind": "shards", "shards": [[path.name, index.shard_bytes, index.samples] for path, index in pairs]}

    def steps(self) -> list[Step]:
        """Those of the corpus."""
        return self.before

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Ranges of samples of shards."""
        names = [str(path if is_remote(path) else path.absolute()) for path in self.shards]
        counts = zip(names, (index.samples for index in self.indexes), strict=True)
        yield from ({"ranges": some} for some in ranges(counts, size))


def read(ranges: list[tuple[str, int, int]]) -> Iterator[Found]:
    """The samples of a part. Errors: a shard that was changed or cannot be read."""
    with closing(ShardFiles()) as files:
        for name, first, behind in ranges:
            path = shard_path(name)
            index = load_index(path)
            for sample in range(first, behind):
                yield _found(Draw(sample, Cursor(), path, index.span(sample), files))


def _found(draw: Draw) -> Found:
    try:
        members = draw.read(*IMAGES, "json", "txt")
    except SampleFault as fault:
        return Found(draw.name, fault=str(fault))
    image = next((members[extension] for extension in IMAGES if extension in members), None)
    said = as_said(members.get("json"), members.get("txt"))
    if image is None:
        return Found(draw.name, fault="no image")
    return Found(draw.name, fault="broken captions") if said is None else Found(draw.name, image, said)
