"""Records found in files and folders. What else lies there is passed over; what claims to be a record and is none is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from tips_bench.errors import UserError

RECORD_SCHEMAS = "tips-bench/record/"
ReadT = TypeVar("ReadT")


def read_records(paths: str | Path | Iterable[str | Path], read: Callable[[Path], ReadT]) -> tuple[list[ReadT], list[UserError]]:
    """What `read` makes of each record in files and, recursively, in folders, sorted by path; and what is wrong with the broken ones.

    read: such as `load_record`, or `load_scored` for its counts, too. A file that is found twice is read once. Errors: a path that is not
    there, a file named outright that is no record, not one record there, broken or not.
    """
    named = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    found: dict[Path, ReadT] = {}
    broken: dict[Path, UserError] = {}
    for path in named:
        if not path.is_dir():
            found[path.resolve()] = read(path)
            continue
        for file in _records_below(path):
            try:
                found[file.resolve()] = read(file)
            except UserError as error:
                broken[file.resolve()] = error
    if not found and not broken:
        fix = "Write some with `tips-bench run --out FOLDER`."
        raise UserError("no records there", where=", ".join(map(str, named)), fix=fix)
    return [found[path] for path in sorted(found)], [broken[path] for path in sorted(broken)]


def _records_below(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*.json")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)  # a run that is not done works in a hidden folder
        if not hidden and not _is_other_json(file):
            yield file


def _is_other_json(file: Path) -> bool:
    """Whether it is sound JSON that does not claim to be a record."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # whoever reads it says what is wrong with it
    return not (isinstance(data, dict) and str(data.get("schema")).startswith(RECORD_SCHEMAS))
