"""The cache of features as its owner sees it: what is there, what goes first when room is needed, whether it is whole."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.features.memory import ABOUT, records_of


@dataclass(frozen=True)
class Part:
    """Up to about a gigabyte of features of one encoder. used: seconds since 1970, when a run last opened it."""

    index: Path
    encoder: str
    size: int
    used: float

    @property
    def data(self) -> Path:
        """The file of the features themselves."""
        return self.index.with_suffix(".bin")


def parts(cache: Path) -> list[Part]:
    """All parts below the folder of cached features, the one that was not used for longest first."""
    found = []
    for index in cache.glob("*/part-*.index"):
        data = index.with_suffix(".bin")
        size = index.stat().st_size + (data.stat().st_size if data.exists() else 0)
        found.append(Part(index, _encoder(index.parent), size, index.stat().st_mtime))
    return sorted(found, key=lambda part: (part.used, part.index))


def _encoder(folder: Path) -> str:
    try:
        return str(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["encoder"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name[:12]


def prune(cache: Path, most_bytes: float) -> list[Part]:
    """Delete parts, the one that was not used for longest first, until no more than this is left; returns those that went.

    A run that reads a part at that moment goes on with it.
    """
    present = parts(cache)
    size = sum(part.size for part in present)
    gone = []
    for part in present:
        if size <= most_bytes:
            break
        try:
            part.index.unlink(missing_ok=True)  # first: without it the rest is not found
            part.data.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete: {error.strerror}", where=part.index) from error
        size -= part.size
        gone.append(part)
    return gone


def verify(part: Part) -> tuple[int, int]:
    """(arrays that are what was written, arrays that are not), by their CRC-32. Those that are not are never used."""
    whole = broken = 0
    try:
        with part.data.open("rb") as file:
            for place, itemsize in records_of(part.index):
                file.seek(place.offset)
                good = zlib.crc32(file.read(place.rows * place.columns * itemsize)) == place.check
                whole, broken = whole + good, broken + (not good)
    except OSError:
        return 0, sum(1 for _ in records_of(part.index))
    return whole, broken
