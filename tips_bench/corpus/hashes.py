"""Hashes of the files that a step reads: of shards those of the manifest, or else found once for each version of a file.

What was found stays in the cache, so a step that is taken up again, and the next one, do not read all files for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tips_bench.catalog import cache_root
from tips_bench.corpus.pieces import Piece, run_pieces
from tips_bench.corpus.storage import address, sha256_of, versions
from tips_bench.corpus.store import Manifest
from tips_bench.executors.chosen import Chosen
from tips_bench.files import digest, write_text
from tips_bench.training.shard_files import shard_path

CACHE = "corpus-hashes"


def hashes_of(manifest: Manifest, shards: Sequence[Path], chosen: Chosen | None) -> list[str]:
    """Hex SHA-256 of each shard. chosen: the executor that reads them. Errors: a shard that cannot be read."""
    if manifest.shards:
        return [shard.sha256 for shard in manifest.shards]
    return file_hashes(shards, chosen)


def file_hashes(files: Sequence[Path], chosen: Chosen | None = None) -> list[str]:
    """Hex SHA-256 of each file, whatever its size. chosen: the executor that reads them. Errors: a file that cannot be read."""
    pieces = [_piece(address(path), version) for path, version in zip(files, versions(files), strict=True)]
    run_pieces(pieces, "hashes", chosen)
    return [piece.done.read_text(encoding="ascii") for piece in pieces]


def hash_file(file: str, done: str) -> None:
    """A piece: the hash of one file, as a file."""
    write_text(Path(done), sha256_of(shard_path(file)))


def _piece(file: str, version: str) -> Piece:
    done = cache_root() / CACHE / f"{digest(file, version)[:24]}.txt"
    return Piece("tips_bench.corpus.hashes:hash_file", {"file": file, "done": str(done)}, done, "cpu")
