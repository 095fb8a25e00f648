"""Which files a set on disk has: folders, lists, groups, and the errors that name what is missing."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from tips_bench.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def files_below(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    """id -> file, for the visible files below a folder; an id is the path inside the folder without its suffix, in whatever case.

    Errors: a folder that cannot be read, a folder that links lead to twice (as in a loop: its files would count twice), two files of
    one id.
    """
    found: dict[str, str] = {}
    seen: dict[tuple[int, int], str] = {}
    prefix = len(str(folder)) + 1
    for base, _, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        place = os.stat(base)
        if (first := seen.setdefault((place.st_dev, place.st_ino), base)) != base:
            raise UserError(f"a link leads to {first} again, and its files would count twice", where=base, fix="Remove the link.")
        for name in names:
            suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix.lower())), None)
            if suffix is None or name.startswith("."):
                continue
            path = f"{base}/{name}"
            if found.setdefault(path[prefix : -len(suffix)], path) != path:
                raise UserError(
                    f"two images have the same id: {name} and {Path(found[path[prefix : -len(suffix)]]).name}",
                    where=folder,
                    fix="Keep one.",
                )
    return found


def _unreadable(error: OSError) -> None:
    raise UserError(f"cannot read: {error.strerror}", where=error.filename) from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something, without surrounding blanks. Errors: a file that cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read: {getattr(error, 'strerror', None) or error}", where=path) from error
    return [line.strip() for line in lines if line.strip()]


def inside(name: str, where: Path) -> str:
    """A name from a list, relative to the set's folder. where: the list. Errors: a name that leads out of the folder."""
    if name.startswith("/") or ".." in name.split("/"):
        raise UserError(f"the id {name!r} points outside the folder", where=where, fix="Download the list again.")
    return name


def lacking(root: Path, parts: list[str]) -> list[str]:
    """The parts that do not exist under the root."""
    return [part for part in parts if not (root / part).exists()]


def file_sizes(paths: list[str], fault: str, how: str, most: int | None = None) -> list[int]:
    """Bytes of each file, one system call a file: 118k pairs take about a second.

    most: of a single file. fault: what is missing; how: how to get it.
    Errors: a missing file, with the number of all that are; a folder, a pipe or a device; a file of more than `most` bytes.
    """
    sizes: list[int] = []
    missing: list[str] = []
    for path in paths:
        try:
            found = os.stat(path)
        except (OSError, ValueError):  # whatever hides it, the file cannot be read
            missing.append(path)
            continue
        if not stat.S_ISREG(found.st_mode):
            raise UserError("a folder, a pipe or a device where a file is meant", where=path, fix="Replace it by the file.")
        if most is not None and found.st_size > most:
            raise UserError(f"a file of {found.st_size} bytes, and an image has at most {most}", where=path, fix="Leave it out.")
        sizes.append(found.st_size)
    if missing:
        raise UserError(f"{fault} ({len(missing)} of {len(paths)}, this is the first)", where=missing[0], fix=how)
    return sizes


def group_pattern(group: str | None) -> re.Pattern[str] | None:
    """The compiled option `group` of a reader. Errors: no regular expression, or one without a group in parentheses."""
    if group is None:
        return None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(f"group = {group!r}: not a regular expression ({error})", where="data.options") from error
    if not pattern.groups:
        raise UserError(f"group = {group!r}: it has no part in parentheses", where="data.options", fix="For example: ^(.*)_\\d+$.")
    return pattern


def group_of(pattern: re.Pattern[str], sample: str) -> str:
    """What the pattern's first group finds in an id. Errors: nothing."""
    found = pattern.search(sample)
    if found is None or found[1] is None:
        raise UserError(
            f"group = {pattern.pattern!r} does not match the id {sample!r}",
            where="data.options",
            fix="Change the expression, so that it matches every id.",
        )
    return found[1]
