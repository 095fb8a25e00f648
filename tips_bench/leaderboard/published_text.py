"""A measured record beside what papers report, for people; lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from tips_bench.leaderboard.published import Beside
from tips_bench.results.comparison_text import plain, signed, wrapped
from tips_bench.results.record import Record

DIFFERENCES = 6  # shown; --json has all


def papers_text(record: Record, found: Sequence[Beside]) -> str:
    """The measured number, then each reported one with its source, its protocol as stated and what is known to differ."""
    parts = [
        wrapped(f"{record.model_name} on {record.task} with {record.protocol}. Reported numbers have no interval and are not mixed in.")
    ]
    for one in found:
        unit, metric = one.reported.unit, one.reported.metric
        lines = wrapped(f"{one.reported.paper}: {one.reported.where}. Printed as {one.reported.printed!r}.")
        interval = one.measured.ci95
        sure = "" if interval is None else f"  [{plain(interval[0], unit)}, {plain(interval[1], unit)}] at 95 %"
        lines.append(f"  reported   {plain(one.reported.value, unit):>8} {unit} {metric}")
        lines.append(f"  measured   {plain(one.measured.value, unit):>8} {unit} {metric}{sure}")
        where = {True: "inside the interval", False: "outside the interval", None: "no interval"}[one.inside]
        lines.append(f"  distance   {signed(one.distance, unit):>8} {unit}, the reported number is {where}")
        lines += _field("stated", one.reported.protocol.text)
        lines += _field("unstated", ", ".join(one.reported.protocol.unstated))
        more = len(one.differences) - DIFFERENCES
        for difference in one.differences[:DIFFERENCES]:
            lines += _field("differs", difference)
        lines += _field("differs", f"and in {more} more values (--json)" if more > 0 else "")
        lines += _field("note", one.reported.note)
        parts.append(lines)
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _field(name: str, text: str) -> list[str]:
    return wrapped(f"  {name:<11}{text}", indent=" " * 13) if text else []
