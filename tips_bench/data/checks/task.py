"""All splits of a task: each by the check of its family, and both together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tips_bench.cards import TaskCard
from tips_bench.data.checks.base import Report
from tips_bench.data.checks.shared_images import judge_shared
from tips_bench.data.completeness import completeness
from tips_bench.data.uned import UnedReader
from tips_bench.errors import UserError
from tips_bench.registry import FAMILIES, READERS


def check_task(card: TaskCard, root: Path, roles: tuple[str, ...] = ("train", "test"), workers: int = 2) -> list[Report]:
    """A report for each split of a task; one that cannot be opened has that as its fault. root: the data root."""
    reports: list[Report] = []
    readers: dict[str, Any] = {}
    for role in (role for role in roles if role in card.data.splits):
        split, folder = card.data.splits[role], root / card.data.root
        try:
            readers[role] = READERS.get(card.data.reader)(folder, split, **card.data.options)
        except UserError as error:
            expected = completeness(card.data, split, 0).expected
            reports.append(Report(card.name, split, str(folder), expected=expected, faults=[str(error)]))
            continue
        expected = completeness(card.data, split, len(readers[role])).expected
        reports.append(FAMILIES.get(card.family).check_of()(readers[role], expected, workers))
    # A query of a set of instances may be an image of the index: it is left out of its own search.
    if len(readers) == 2 and not isinstance(readers["test"], UnedReader):
        judge_shared(reports[-1], readers["train"], readers["test"])
    return reports
