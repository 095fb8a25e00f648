"""Which records a table shows, and which of their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from tips_bench.errors import UserError, unknown_name
from tips_bench.results.record import Record


def chosen(
    records: Sequence[Record], *, tasks: Sequence[str] = (), models: Sequence[str] = (), protocols: Sequence[str] = ()
) -> list[Record]:
    """Those whose task, model and protocol each match one of the patterns, as a shell's: `rooms-*`. No patterns: all.

    Errors: a pattern that matches no record, with near names.
    """
    kept = list(records)
    for kind, patterns in (("task", tasks), ("model", models), ("protocol", protocols)):
        names = {id(record): _name(record, kind) for record in kept}
        for pattern in patterns:
            if not _matches(names.values(), pattern):
                raise unknown_name(kind, pattern, names.values(), where="table")
        kept = [record for record in kept if not patterns or any(fnmatchcase(names[id(record)], pattern) for pattern in patterns)]
    return kept


def with_metric(records: Sequence[Record], metric: str) -> list[Record]:
    """Those that have the metric, each with it in place of its primary one. Errors: no record has it, with near names."""
    known = {name for record in records for name in record.metrics}
    if metric not in known:
        raise unknown_name("metric", metric, known, where="table")
    return [record.model_copy(update={"primary": metric}) for record in records if metric in record.metrics]


def _name(record: Record, kind: str) -> str:
    return {"task": record.task, "model": record.model_name, "protocol": record.protocol}[kind]


def _matches(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def check_caption(caption: str | None, format: str) -> None:
    """Errors: a caption for a format that has none."""
    if caption is not None and format != "latex":
        raise UserError(f"the format {format!r} has no caption", where="--caption", fix="Use --format latex, or leave --caption out.")
