"""Records and boards as what a page shows: numbers as text, links that are safe.

This is the only place where a number of a page is rounded. Text is not escaped here; the templates do that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tips_bench.catalog import shipped
from tips_bench.leaderboard import charts
from tips_bench.leaderboard.class_tables import BoardClasses, board_classes, confusion_table, record_table
from tips_bench.leaderboard.ranking import Board, Entry, Interval
from tips_bench.leaderboard.sample_tables import BoardSums, record_samples
from tips_bench.plain_data import leaves
from tips_bench.results.record import Record
from tips_bench.results.reproduce import command
from tips_bench.wording import counted, nouns

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
        "counted": counted, "nouns": nouns,
    }  # fmt: skip
    templates.globals |= {"interval": charts.interval, "tiny_interval": charts.tiny_interval, "bar": charts.bar}
    templates.globals["icon"] = f"data:image/svg+xml,{quote(static('icon.svg').strip())}"
    return templates


def static(name: str) -> str:
    """A file of leaderboards/static."""
    return (shipped("leaderboards") / "static" / name).read_text(encoding="utf-8")


def stylesheet() -> str:
    """style.css, and dark.css for devices that want it and for readers who chose it: theme.js writes their choice into the root."""
    dark = static("dark.css")
    wanted, chosen = (dark.replace(":root", f":root{which}") for which in (':not([data-theme="light"])', '[data-theme="dark"]'))
    return f"{static('style.css')}@media (prefers-color-scheme: dark) {{\n{wanted}}}\n{chosen}"


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


@dataclass(frozen=True)
class Drawn:
    """A picture of a record. address: of the file, as a page names it. sample: what it shows, "" = several or not recorded."""

    address: str
    sample: str


@dataclass(frozen=True)
class Against:
    """The models of a board against each other."""

    board: Board
    classes: BoardClasses | None
    sums: BoardSums

    @classmethod
    def of(cls, board: Board) -> Against:
        """Of a board."""
        return cls(board, board_classes(board), BoardSums.of(board))


def run_context(entry: Entry, pictures: Sequence[Drawn], against: Against | None) -> dict[str, Any]:
    """What the page of one run shows. pictures: those of the record. against: the board that it stands on, None = on none."""
    record, rivals = entry.record, against if against and len(against.board.entries) > 1 else None
    small = {one.sample: one.address for one in pictures if one.sample and not one.address.startswith("data:")}  # else it is there twice
    return {
        "entry": entry,
        "record": record,
        "metrics": sorted(record.metrics.items(), key=lambda item: item[0] != record.primary),
        "scales": {name: _metric_scale(metric.unit, metric.value, metric.ci95) for name, metric in record.metrics.items()},
        "classes": record_table(entry, rivals.board if rivals else None, rivals.classes if rivals else None),
        "confused": confusion_table(entry),
        "samples": record_samples(entry, rivals.sums if rivals else None, small),
        "alone": dict(zip(entry.by_sample.ids, entry.by_sample.values_N.tolist(), strict=True)).get,
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


def picture_files(entry: Entry) -> list[tuple[Path, str]]:
    """(where it lies, the sample that it shows) of the record's pictures; without the sheet of all where the samples are known."""
    known = [(name, sample) for sample, name in entry.record.picture_of.items()]
    return [(entry.path.parent / name, sample) for name, sample in known or [(name, "") for name in entry.record.pictures]]
