"""Files and text that strangers sent: what is refused before anything reads it.

Nothing here unpacks, follows a link or trusts a length that a file states of itself.
"""

from __future__ import annotations

import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError

MB = 1_000_000
MAX_JSON = 16 * MB
MAX_COUNTS = 256 * MB
MAX_UNPACKED = 2_000 * MB  # 10,000 images of 800 classes are 100 MB as written, 200 MB in memory
MAX_RATIO = 2_000  # deflate packs zeros 1,030 to 1; counts of many classes are mostly zeros
MAX_PICTURE = 16 * MB
MAX_PIXELS = 60_000_000
MAX_NAME = 200
MAX_TEXT = 20_000
PNG = b"\x89PNG\r\n\x1a\n"
MEMBERS = {"ids.npy", "groups.npy", "counts.npy"}
MAX_SETS = 20  # of counts in one file


def check_file(path: Path, limit: int) -> None:
    """Refuse what is no regular file or larger than `limit` bytes. Errors: missing, a link, a folder or device, too large."""
    if path.is_symlink():
        raise UserError("a symbolic link", where=path, fix="Put the file itself there.")
    if not path.exists():
        raise UserError("no such file", where=path)
    if not path.is_file():
        raise UserError("not a regular file", where=path)
    size = path.stat().st_size
    if size > limit:
        raise UserError(f"{size / MB:,.0f} MB, more than the {limit / MB:,.0f} MB allowed", where=path)


def check_counts(path: Path) -> None:
    """Refuse a `.samples.npz` that would unpack to more than it should.

    It holds the family's own counts and, in folders named for them, those of metrics beside it. Errors: as `check_file`; no zip, odd
    members, a zip bomb.
    """
    check_file(path, MAX_COUNTS)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError("not a file of per-sample counts, or a broken one", where=path, fix="Run the task again.") from error
    names = [member.filename for member in members]
    metrics = {name.rpartition("/")[0] for name in names}
    wanted = [f"{metric}/{name}" if metric else name for metric in metrics | {""} for name in MEMBERS]
    if sorted(names) != sorted(wanted) or len(metrics) > MAX_SETS:
        raise UserError(f"holds {', '.join(map(ascii, names[:5])) or 'nothing'}, not {', '.join(sorted(MEMBERS))}", where=path)
    for member in members:
        if member.file_size > MAX_UNPACKED or member.file_size > MAX_RATIO * max(1, member.compress_size):
            raise UserError(f"{member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes", where=path)


def check_picture(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of a PNG, from its header. Errors: as `check_file`; no PNG, too many pixels."""
    check_file(path, MAX_PICTURE)
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    if len(header) < 24 or header[:8] != PNG or header[12:16] != b"IHDR":
        raise UserError("not a PNG picture", where=path)
    width, height = struct.unpack(">II", header[16:24])
    if not width or not height or width * height > MAX_PIXELS:
        raise UserError(f"a picture of {width} x {height} pixels", where=path, fix=f"At most {MAX_PIXELS:,} pixels.")
    return width, height


def hostile(text: str, *, name: bool = False) -> str | None:
    """Why a text is refused, None where it is not: control or direction characters, too long; a name takes no markup either."""
    limit = MAX_NAME if name else MAX_TEXT
    if len(text) > limit:
        return f"{len(text):,} characters, more than {limit:,}"
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and (name or character not in "\n\t"):
            return f"holds the invisible character U+{ord(character):04X}"
        if name and character in '<>"\\`':
            return f"holds {character!r}, which a name does not"
    return None


def texts(data: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(dotted place, text) of every text in plain data, keys of mappings too."""
    if isinstance(data, str):
        yield place, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield f"{place}, a key", str(key)
            yield from texts(value, f"{place}.{key}" if place else str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, f"{place}.{index}")
