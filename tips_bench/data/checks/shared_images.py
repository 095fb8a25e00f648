"""Images that stand in the training split and in the scored split of a task: a score on what was learned by heart.

Two images are one where their files hold the same bytes. Published sets hold a few such pairs (photos that were collected twice);
those are a remark, and more are a fault.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

from tips_bench.data.checks.base import Report
from tips_bench.data.image_files import ImageFiles

ALLOWED = 0.01  # share of the scored images
SOME = 3  # ids that a sentence lists


def judge_shared(report: Report, train: Any, test: Any) -> None:
    """Add a fault or a remark to the report of the scored split. train, test: readers."""
    if train.fingerprint == test.fingerprint:
        report.faults.append(f"the splits {train.split} and {test.split} are the same data: {len(test)} images are trained on and scored")
        return
    shared = shared_ids(train, test)
    if not shared:
        return
    some = ", ".join(shared[:SOME]) + (", ..." if len(shared) > SOME else "")
    said = f"{len(shared)} of {len(test)} samples are in the split {train.split}, too: {some}"
    (report.faults if len(shared) > ALLOWED * len(test) else report.remarks).append(said)


def shared_ids(train: Any, test: Any) -> list[str]:
    """Ids of the scored samples that are trained on: of the same bytes, or, for sets that are no image files, of the same id."""
    if not isinstance(test, ImageFiles) or not isinstance(train, ImageFiles):
        return sorted(set(train.ids) & set(test.ids))
    ours, theirs = _by_size(test), _by_size(train)
    found = []
    for size in ours.keys() & theirs.keys():
        contents = {_content(path) for _, path in theirs[size]}
        found += [id for id, path in ours[size] if _content(path) in contents]
    return sorted(found)


def _by_size(reader: ImageFiles) -> dict[int, list[tuple[str, Path]]]:
    """Size in bytes -> (id, image file) of every sample."""
    found: dict[int, list[tuple[str, Path]]] = {}
    for index, (id, size) in enumerate(zip(reader.ids, reader.image_bytes, strict=True)):
        found.setdefault(size, []).append((id, reader.file(index)))
    return found


def _content(path: Path) -> bytes:
    return blake2b(path.read_bytes(), digest_size=16).digest()
