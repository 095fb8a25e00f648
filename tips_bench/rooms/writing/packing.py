"""Files of a set packed into tar shards, the same bytes always."""

from __future__ import annotations

import io
import itertools
import tarfile
from pathlib import Path, PurePosixPath

from tips_bench.files import sha256


def pack(folder: Path, names: list[str], samples: int) -> dict[str, str]:
    """Move the files SPLIT/STEM.EXTENSION under `folder` into SPLIT-000.tar, SPLIT-001.tar ... of `samples` stems each, by their order.

    Gives the shards' names -> hex SHA-256.
    """
    hashes = {}
    for split, in_split in itertools.groupby(sorted(map(PurePosixPath, names)), lambda path: path.parent):
        stems = [list(group) for _, group in itertools.groupby(in_split, lambda path: path.stem)]
        for number, first in enumerate(range(0, len(stems), samples)):
            shard = folder / f"{split.name}-{number:03d}.tar"
            with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
                for path in itertools.chain.from_iterable(stems[first : first + samples]):
                    _move(folder / path, tar)
            hashes[shard.name] = sha256(shard)
        (folder / split).rmdir()
    return hashes


def _move(path: Path, tar: tarfile.TarFile) -> None:
    data = path.read_bytes()
    member = tarfile.TarInfo(path.name)  # no owner, no date
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    path.unlink()
