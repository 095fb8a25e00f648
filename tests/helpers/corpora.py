"""Folders and lists of images to fetch, the command that does, and what a corpus holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from typer.testing import CliRunner, Result

from tests.helpers.shards import picture
from tips_bench.cli.app import app
from tips_bench.corpus.store import Sample, read_samples, shards_of


def image_folder(folder: Path, count: int) -> Path:
    """So many images in two folders, every fifth a PNG file, each with a caption in a .txt file."""
    for number in range(count):
        suffix, kind = (".png", "png") if number % 5 == 0 else (".jpg", "jpeg")
        path = folder / ("a" if number % 2 else "b") / f"{number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number, kind, (48 + number % 7, 40)))
        path.with_suffix(".txt").write_text(f"a room with {number} things")
    return folder


def samples_of(corpus: Path) -> list[Sample]:
    """All samples in their order."""
    return [sample for shard in shards_of(corpus) for sample in read_samples(shard)]


def files_of(corpus: Path) -> dict[str, str]:
    """The SHA-256 of each file by its path."""
    return {str(path.relative_to(corpus)): hashlib.sha256(path.read_bytes()).hexdigest() for path in corpus.rglob("*") if path.is_file()}


def corpus(*arguments: object) -> Result:
    """What `tips-bench corpus` says to these arguments, in a terminal of 80 columns."""
    return CliRunner().invoke(app, ["corpus", *(str(argument) for argument in arguments)], env={"COLUMNS": "80"})


def fetched(source: object, to: Path, *options: object) -> Path:
    """A corpus that `corpus fetch` makes."""
    done = corpus("fetch", source, "--to", to, *options)
    assert done.exit_code == 0, done.output
    return to
