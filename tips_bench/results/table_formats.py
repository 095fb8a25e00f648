"""A laid-out table in a format: this is the only place where a number is rounded.

Names come from files that others wrote, so each format escapes them and characters that do not print are replaced.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tips_bench.terminal import printable

if TYPE_CHECKING:
    from tips_bench.results.table_layout import Cell, Column, Layout, Row

COST = ("images", "minutes", "images/s")
CAPTION = "±: 95 % bootstrap interval over test images (or groups of them). images: through the backbone, fit and test."
UNEVEN = "[low, high]: the same, where the score is not in its middle."
EVEN = 0.2  # ours: by what share of half the interval its ends may be unlike in their distance from the score
RESUMED = "+ and more: the run was interrupted, and what it did before is not counted."
BOLD = "Bold: best of its protocol, its interval excludes the others' scores."
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--",
}  # fmt: skip
NAME_WIDTH = 32
DECIMALS = {"%": 2, "deg": 2, "m": 3}  # by unit; others are ratios


def score(cell: Cell | None, unit: str) -> str:
    """ "41.23 ±0.85", "41.23 [38.10, 42.02]" where the interval is uneven, "–" for not scored, "" for not run.

    All scores of a unit have the same number of decimals.
    """
    if cell is None:
        return ""
    if math.isnan(cell.value):
        return "–"
    digits = f".{DECIMALS.get(unit, 4)}f"
    if cell.interval is None:
        return f"{cell.value:{digits}}"
    low, high = cell.interval
    if not _is_even(cell):
        return f"{cell.value:{digits}} [{low:{digits}}, {high:{digits}}]"
    return f"{cell.value:{digits}} ±{(high - low) / 2:{digits}}"


def _is_even(cell: Cell | None) -> bool:
    """Whether the score is in the middle of its interval; True without one."""
    if cell is None or cell.interval is None or math.isnan(cell.value):
        return True
    low, high = cell.interval
    return abs(high + low - 2 * cell.value) <= EVEN * (high - low) / 2


def marked(cell: Cell | None, text: str) -> str:
    """`text` followed by the cell's footnote signs."""
    return text + "".join(cell.signs if cell is not None else ())


def costs(row: Row) -> list[str]:
    """Images, minutes and images a second of a row, rounded."""
    rate = "–" if math.isnan(row.images_per_s) else f"{row.images_per_s:.3g}" if row.images_per_s < 1000 else f"{row.images_per_s:.0f}"
    more = "+" if row.resumed else ""
    return [f"{row.images:,}{more}", f"{row.minutes:.1f}{more}", rate]


def title(column: Column) -> tuple[str, str]:
    """The task, and its metric with unit and direction."""
    return column.task, f"{column.metric} {column.spec.unit} {column.spec.arrow}"


def body(layout: Layout, cell_text: Callable[[Cell | None, str], str]) -> list[list[str]]:
    """Each row's model, protocol, scores and costs; `cell_text` makes a score and escapes nothing else."""
    return [
        [
            row.model,
            row.protocol,
            *(cell_text(cell, column.spec.unit) for cell, column in zip(row.cells, layout.columns, strict=True)),
            *costs(row),
        ]
        for row in layout.rows
    ]


def captions(layout: Layout, bold: bool = True, cost: bool = True) -> list[str]:
    """What the signs in the cells mean, but for the footnotes. bold, cost: whether the format shows them."""
    best = bold and any(cell is not None and cell.best for row in layout.rows for cell in row.cells)
    resumed = cost and any(row.resumed for row in layout.rows)
    uneven = any(not _is_even(cell) for row in layout.rows for cell in row.cells)
    return [CAPTION, *([UNEVEN] if uneven else []), *([BOLD] if best else []), *([RESUMED] if resumed else [])]


def terminal(layout: Layout, width: int, color: bool) -> str:
    """For people, at most `width` columns wide: columns are dropped from the last, the first task always stays."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None, legacy_windows=False, _environ={}
    )
    wide = console.options.update(max_width=100_000)
    names = [*(column.task for column in layout.columns), *COST]
    shown = len(names)
    while shown > 1 and Measurement.get(console, wide, _rich_table(layout, shown)).maximum > width:
        shown -= 1
    console.print(_rich_table(layout, shown))
    console.print()
    seen = {sign for row in layout.rows for cell in row.cells[:shown] if cell is not None for sign in cell.signs}
    notes = [f"{sign} {sentence}" for sign, sentence in layout.notes.items() if sign in seen]
    if shown < len(names):
        notes.append(f"Too narrow for: {', '.join(names[shown:])}. Widen the terminal, or use --format csv.")
    for note in [*captions(layout, bold=color, cost=shown > len(layout.columns)), *notes]:
        console.print(Text(printable(note)), style="dim" if color else "")
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def _rich_table(layout: Layout, shown: int) -> Any:
    """The first `shown` columns after the model and the protocol."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    heads = ["\n".join(printable(part) for part in title(column)) for column in layout.columns] + list(COST)
    for head in ("model", "protocol"):
        table.add_column(head, overflow="fold", max_width=NAME_WIDTH, vertical="bottom")
    for head in heads[:shown]:
        table.add_column(Text(head), justify="right", no_wrap=True, vertical="bottom")
    for row, texts in zip(layout.rows, body(layout, lambda cell, unit: marked(cell, score(cell, unit))), strict=True):
        styles = ["", "", *("bold" if cell is not None and cell.best else "" for cell in row.cells), *("" for _ in COST)]
        table.add_row(*(Text(printable(text), style=style) for text, style in list(zip(texts, styles, strict=True))[: 2 + shown]))
    return table


def markdown(layout: Layout) -> str:
    """A GitHub table with the footnotes below."""

    def cell_text(cell: Cell | None, unit: str) -> str:
        text = score(cell, unit)
        return marked(cell, f"**{text}**" if cell is not None and cell.best else text)

    names = 2
    rows = [[*map(markdown_text, row[:names]), *row[names:]] for row in body(layout, cell_text)]
    heads = ["model", "protocol", *(markdown_text(" ".join(title(column))) for column in layout.columns), *COST]
    lines = [heads, ["---"] * names + ["---:"] * (len(heads) - names), *rows]
    notes = [markdown_text(f"{sign} {sentence}") for sign, sentence in layout.notes.items()]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([text, *captions(layout), *notes]) + "\n"


def markdown_text(text: str) -> str:
    """`text` as it stands in a Markdown table: what Markdown or HTML would read is escaped."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>#|~!&" else character for character in printable(text))


def latex(layout: Layout, caption: str | None = None) -> str:
    """A tabular that needs the booktabs package, the footnotes below it; with a caption, as LaTeX, in a table of its own."""

    def cell_text(cell: Cell | None, unit: str) -> str:
        text = _latex(score(cell, unit))
        text = rf"\textbf{{{text}}}" if cell is not None and cell.best else text
        return text + "".join(map(_latex_sign, cell.signs if cell is not None else ()))

    names = 2
    heads = ["model", "protocol", *(" ".join(title(column)) for column in layout.columns), *COST]
    rows = [[*map(_latex, row[:names]), *row[names:]] for row in body(layout, cell_text)]
    begin, end = ([r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"], [r"\end{table}"]) if caption is not None else ([], [])
    lines = [r"% \usepackage{booktabs}", *begin, rf"\begin{{tabular}}{{ll{'r' * (len(heads) - names)}}}", r"\toprule"]
    lines += [
        f"{' & '.join(map(_latex, heads))} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = [_latex(caption) for caption in captions(layout)]
    notes += [f"{_latex_sign(sign)} {_latex(sentence)}" for sign, sentence in layout.notes.items()]
    return "\n".join([*lines, *(rf"\par\footnotesize {note}" for note in notes), *end]) + "\n"


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in printable(text))


def _latex_sign(sign: str) -> str:
    return f"$^{{{sign.replace('†', chr(92) + 'dagger ').replace('‡', chr(92) + 'ddagger ').replace('§', chr(92) + 'S ').strip()}}}$"


def as_csv(layout: Layout) -> str:
    """Full precision; four columns a task: the score, the ends of its interval, and its footnotes."""
    import pandas as pd

    from tips_bench.results.frames import to_csv

    heads = ["model", "protocol"]
    for column in layout.columns:
        name = f"{column.task} {column.metric}"
        heads += [f"{name} ({column.spec.unit})", f"{name} low", f"{name} high", f"{name} notes"]
    lines: list[list[object]] = []
    for row in layout.rows:
        line: list[object] = [row.model, row.protocol]
        for cell in row.cells:
            ends = cell.interval if cell is not None and cell.interval is not None else ("", "")
            line += ["", "", "", ""] if cell is None else [_number(cell.value), *ends, "; ".join(layout.notes[sign] for sign in cell.signs)]
        lines.append([*line, row.images, row.minutes, _number(row.images_per_s), row.resumed])
    return to_csv(pd.DataFrame(lines, columns=[*heads, *COST, "resumed"], dtype=object))


def _number(value: float) -> float | str:
    return "" if math.isnan(value) else value


def as_json(layout: Layout) -> str:
    """Full precision; null where a task was not scored, no cell where it was not run."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    def scores(row: Row) -> list[dict[str, Any]]:
        return [
            {
                "task": column.task,
                "metric": column.metric,
                "unit": column.spec.unit,
                "higher_is_better": column.spec.higher_is_better,
                "value": known(cell.value),
                "ci95": cell.interval,
                "n": cell.n,
                "best": cell.best,
                "notes": [layout.notes[sign] for sign in cell.signs],
            }
            for column, cell in zip(layout.columns, row.cells, strict=True)
            if cell is not None
        ]

    rows = [
        {
            "model": row.model,
            "protocol": row.protocol,
            "scores": scores(row),
            "images": row.images,
            "minutes": row.minutes,
            "images_per_s": known(row.images_per_s),
            "resumed": row.resumed,
        }
        for row in layout.rows
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[..., str]] = {"terminal": terminal, "markdown": markdown, "csv": as_csv, "latex": latex, "json": as_json}
