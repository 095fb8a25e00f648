"""Records and boards as what a page shows: numbers as text, links that are safe.

This is the only place where a number of a page is rounded. Text is not escaped here; the templates do that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tips_bench.catalog import shipped
from tips_bench.leaderboard import charts
from tips_bench.leaderboard.ranking import Entry, Interval
from tips_bench.plain_data import leaves
from tips_bench.results.record import Record
from tips_bench.results.reproduce import command

HEX = 12  # digits of a hash that are shown


def environment() -> Environment:
    """The templates, with every text escaped and an unknown name an error."""
    templates = Environment(
        loader=FileSystemLoader(shipped("leaderboards") / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "score": score, "range": interval_text, "near_range": near_interval,
        "quantity": quantity, "gain": gain, "link": link, "short": lambda text: text[:HEX],
        "name": breakable, "leaves": lambda card: list(leaves(card)), "value": value_text, "seconds": seconds,
    }  # fmt: skip
    templates.globals |= {"interval": charts.interval, "tiny_interval": charts.tiny_interval}
    return templates


def static(name: str) -> str:
    """A file of leaderboards/static."""
    return (shipped("leaderboards") / "static" / name).read_text(encoding="utf-8")


def breakable(name: str) -> Markup:
    """A name, escaped, that may break after its punctuation."""
    return Markup(re.sub(r"(?<=[_/.:@])(?=[^\s])", "<wbr>", str(escape(name))))


def score(value: float | None, unit: str) -> str:
    """Two decimals for percent, else four digits; "–" = not scored."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}" if unit == "%" else f"{value:.4g}"


def interval_text(sure: Interval | None, unit: str) -> str:
    """ "40.12–42.50", "" without one."""
    return "" if sure is None else f"{score(sure[0], unit)}–{score(sure[1], unit)}"


def near_interval(sure: Interval | None, unit: str) -> str:
    """The same in few letters, for tables of thousands of cells: one decimal for percent, else three digits."""
    return "" if sure is None else "–".join(f"{end:.1f}" if unit == "%" else f"{end:.3g}" for end in sure)


def gain(value: float, unit: str) -> str:
    """A difference with its sign: "+1.20", "−0.05"; a true minus, as in print."""
    return f"{value:+.2f}".replace("-", "−") if unit == "%" else f"{value:+.3g}".replace("-", "−")


def quantity(value: float | None, digits: int = 3) -> str:
    """A cost: three digits, thousands set apart, "–" where it was not measured."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def seconds(value: float) -> str:
    """ "12.3 s", "4 min 05 s", "3 h 20 min"."""
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def link(text: str | None) -> Markup | str:
    """A web address as a link that names no referrer; any other text as it stands."""
    if text and re.fullmatch(r"https?://[^\s\"'<>\\]+", text):
        return Markup('<a href="{0}" rel="noreferrer nofollow">{0}</a>').format(text)
    return text or ""


def value_text(value: Any) -> str:
    """A card's value as YAML would have it on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def class_chart(entry: Entry) -> tuple[str, Markup] | None:
    """(name of the per-class score, bars of all classes, the best first); None where there are no classes."""
    if not entry.record.per_class:
        return None
    name = next((name for name in entry.classes if name in entry.record.per_class), next(iter(entry.record.per_class)))
    values, sure = entry.record.per_class[name], entry.classes.get(name, {})
    order = sorted(values, key=lambda label: -math.inf if values[label] is None else -float(values[label] or 0))
    order.sort(key=lambda label: values[label] is None)
    return name, charts.bars([(label, values[label], sure.get(label)) for label in order], entry.metric.unit)


def run_context(entry: Entry, pictures: list[str]) -> dict[str, Any]:
    """What the page of one run shows. pictures: the addresses of its pictures."""
    record = entry.record
    chart = class_chart(entry)
    return {
        "entry": entry,
        "record": record,
        "metrics": sorted(record.metrics.items(), key=lambda item: item[0] != record.primary),
        "scales": {name: _metric_scale(metric.unit, metric.value, metric.ci95) for name, metric in record.metrics.items()},
        "chart": chart,
        "command": command(record),
        "pictures": pictures,
        "cards": {kind: card for kind in ("protocol", "task", "model") if (card := record.cards.get(kind))},
        "grid": _grid(record),
    }


def _metric_scale(unit: str, value: float, sure: Interval | None) -> Interval:
    return (0.0, 100.0) if unit == "%" else charts.span([value, *(sure or ())], margin=0.5)


def _grid(record: Record) -> list[Mapping[str, Any]]:
    """The points that were tried, with the score of each."""
    chosen = record.selection
    if chosen is None:
        return []
    return [
        {"point": ", ".join(f"{key} {value:g}" for key, value in point.items()), "score": score, "chosen": index == chosen.choice}
        for index, (point, score) in enumerate(zip(chosen.grid, chosen.scores, strict=False))
    ]


def picture_files(entry: Entry) -> list[Path]:
    """The record's pictures, where they lie."""
    return [entry.path.parent / name for name in entry.record.pictures]
