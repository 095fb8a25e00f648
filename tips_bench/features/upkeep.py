"""The cache of features as a whole: what is there, what goes first when room is needed, whether it is whole.

Any number of processes may do this at once, and while runs read and write: nothing is locked. What is deleted under a run is made anew.
"""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.features.parts import ABOUT, bytes_a_value, places


@dataclass(frozen=True)
class Part:
    """Up to about a gigabyte of features of one encoder. used: seconds since 1970, when a run last read or wrote it."""

    index: Path
    size: int
    used: float

    @property
    def data(self) -> Path:
        """The file of the features themselves."""
        return self.index.with_suffix(".bin")

    @property
    def encoder(self) -> str:
        """Its name; where it is not known, what its folder's name begins with."""
        folder = self.index.parent
        try:
            return str(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["encoder"])
        except (OSError, ValueError, KeyError, TypeError):
            return folder.name[:12]


def parts(cache: Path) -> list[Part]:
    """All parts below the folder of cached features, the one that was not used for longest first; also what a kill left of one."""
    found = []
    for index in sorted({path.with_suffix(".index") for kind in ("index", "bin") for path in cache.glob(f"*/part-*.{kind}")}):
        size, used = 0, -math.inf
        for path in (index.with_suffix(".bin"), index):
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
                seen = path.stat()
                size, used = size + seen.st_size, seen.st_mtime
        if used > -math.inf:
            found.append(Part(index, size, used))
    return sorted(found, key=lambda part: (part.used, part.index))


def prune(cache: Path, most_bytes: float, before: float = math.inf) -> tuple[list[Part], int]:
    """Delete parts, the one that was not used for longest first, until no more than this is left; (those that went, bytes left).

    before: only parts that nobody used since then, in seconds since 1970. A run that has a part open at that moment goes on with it on a
    local disk, and makes its features anew on a shared one.
    """
    present = parts(cache)
    size = sum(part.size for part in present)
    gone = []
    for part in present:
        if size <= most_bytes or part.used >= before:
            break
        try:
            part.index.unlink(missing_ok=True)  # first: without it the rest is not found
            part.data.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete: {error.strerror}", where=part.index) from error
        size -= part.size
        gone.append(part)
    return gone, size


def verify(part: Part) -> tuple[int, int]:
    """(arrays that are what was written, arrays that are not), by their CRC-32. Those that are not are never used.

    A part that another process deletes meanwhile has neither. Errors: nothing says of which type its values are.
    """
    whole = broken = 0
    try:
        found, itemsize = list(places(part.index)), bytes_a_value(part.index.parent)
    except FileNotFoundError:
        return 0, 0  # deleted meanwhile, or never found by a run
    try:
        with part.data.open("rb") as file:
            for _, place in found:
                file.seek(place.offset)
                good = zlib.crc32(file.read(place.rows * place.columns * itemsize)) == place.check
                whole, broken = whole + good, broken + (not good)
    except OSError:
        return 0, len(found) if part.index.exists() else 0
    return whole, broken
