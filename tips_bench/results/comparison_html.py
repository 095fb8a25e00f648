"""A comparison as HTML for notebooks: what was found in a sentence, then metrics, the classes that changed, and samples.

Names come from files that others wrote, so every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from tips_bench.results.comparison_text import p_text, plain, sentence, signed
from tips_bench.results.statistics import ALPHA, Difference

if TYPE_CHECKING:
    from tips_bench.results.comparison import Comparison

EACH_WAY = 3  # samples with the greatest loss, and as many with the greatest gain


def comparison_html(comparison: Comparison) -> str:
    """Two records compared, as a caption and three tables at most."""
    record, other = comparison.a.record, comparison.b.record
    unit = record.primary_metric.unit
    head = f"{record.task}, {record.protocol}. A: {record.model_name}. B: {other.model_name}"
    metrics = [(f"{name} {record.metrics[name].unit}", _row(one, record.metrics[name].unit)) for name, one in comparison.metrics.items()]
    sure = sorted((one for one in comparison.classes if one.q <= ALPHA), key=lambda one: one.difference.value)
    parts = [
        f"<p>{escape(head)}</p><p><b>{escape(sentence(comparison))}</b></p>",
        _table(["metric", "A", "B", "B - A", "95 %", "p"], metrics),
    ]
    if sure:
        titles = [f"class that changed, {unit}", "A", "B", "B - A", "95 %", "p"]
        parts.append(_table(titles, [(one.name, _row(one.difference, unit)) for one in sure]))
    ends = [one for one in comparison.samples[:EACH_WAY] if one.gain < 0] + [one for one in comparison.samples[-EACH_WAY:] if one.gain > 0]
    if ends:
        titles = [f"{comparison.a.family.item} with the greatest loss and gain", "A", "B", "gain"]
        parts.append(_table(titles, [(one.id, [plain(one.a, unit), plain(one.b, unit), signed(one.gain, unit)]) for one in ends]))
    return "".join(parts)


def _row(one: Difference, unit: str) -> list[str]:
    interval = f"{signed(one.interval[0], unit)} to {signed(one.interval[1], unit)}" if one.interval else ""
    return [plain(one.a, unit), plain(one.b, unit), signed(one.value, unit), interval, p_text(one.p)]


def _table(titles: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in (name, *cells))}</tr>" for name, cells in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
