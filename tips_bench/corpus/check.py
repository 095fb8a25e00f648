"""A look at every sample of a corpus before it is trained on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table

from tips_bench.corpus.store import load_manifest, read_samples, shards_of
from tips_bench.errors import UserError
from tips_bench.files import sha256
from tips_bench.strict import Strict


class CorpusReport(Strict):
    """What was found. skipped: why training would skip samples -> how many. faults: what training would stop at, a sentence each."""

    shards: int
    samples: int
    skipped: dict[str, int]
    faults: list[str]

    def render(self) -> list[Any]:
        """For a terminal."""
        table = Table(show_header=False)
        for name, value in {"shards": self.shards, "samples": self.samples, **self.skipped}.items():
            table.add_row(name, str(value))
        return [table, *self.faults]


def check_corpus(folder: Path) -> CorpusReport:
    """Read all of a corpus. Errors: no corpus is there, or its step has not ended."""
    manifest = load_manifest(folder)
    stated = {} if manifest is None else {shard.name: shard for shard in manifest.shards}
    skipped, faults, samples = Counter[str](), list[str](), 0
    shards = shards_of(folder)
    for path in shards:
        try:
            found = sum(1 for _ in read_samples(path, skipped))
        except (UserError, OSError) as error:
            faults.append(str(error))
            continue
        samples += found
        if path.name in stated and sha256(path) != stated[path.name].sha256:
            faults.append(f"{path}: it is not the shard that the manifest states")
    if not samples:
        faults.append(f"{folder}: no sample can be trained on")
    return CorpusReport(shards=len(shards), samples=samples, skipped=dict(skipped), faults=faults)
