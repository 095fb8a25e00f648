"""What the subcommands print: tables, JSON, errors on one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tips_bench.terminal import in_color, one_line, printable

if TYPE_CHECKING:
    from tips_bench.results.record import Record

# columns where standard output is no terminal, so that a file or a pager gets whole lines
PIPED_WIDTH = 10_000
LONGEST = 1200  # characters of an error; its end says what to do
UNCUT = 24  # cells up to this length are folded last
NARROWEST = 6


def print_error(error: Exception) -> None:
    """One line on standard error, whatever the message holds (a hostile file's name may hold line breaks or escapes, or be endless)."""
    text = one_line(str(error))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 300]} ... {text[-300:]}"
    print(f"tips-bench: {text}", file=sys.stderr)


def print_line(text: str) -> None:
    """A line on standard output that holds names or paths, which may hold anything."""
    print(printable(text))


def print_json(data: Any) -> None:
    """JSON on standard output; what does not print (terminal escapes, text directions) is escaped, all that is not ASCII where need be."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    if not text.replace("\n", "").isprintable():
        text = "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(data, indent=1, allow_nan=False)
    print(text)


def columns() -> int:
    """How wide output may be: $COLUMNS, else the terminal; PIPED_WIDTH where a program reads it, which gets whole lines."""
    if os.environ.get("COLUMNS", "").isdecimal() or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return PIPED_WIDTH


def print_text(text: str) -> None:
    """A sentence on standard output, in lines that fit the terminal."""
    print(textwrap.fill(one_line(text), columns(), break_on_hyphens=False))


def print_rich(*renderables: Any) -> None:
    """Rich renderables on standard output: as wide as a terminal, and as wide as they are where a program reads them."""
    from rich.console import Console

    colored = in_color(sys.stdout)

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = PipedConsole(width=columns(), force_terminal=colored, color_system="standard" if colored else None)
    console.print(*renderables, sep="\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, optional: int = 0) -> None:
    """Aligned columns on standard output. Where a line does not fit the terminal, the longest cells go on in the next line.

    optional: so many of the last columns may be left out before cells of UNCUT characters are folded; a line below names them.
    """
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown, total = len(widths), columns()
    while shown > len(widths) - optional and _together(_narrowed(widths[:shown], total, UNCUT)) > total:
        shown -= 1
    widths = _narrowed(_narrowed(widths[:shown], total, UNCUT), total, NARROWEST)
    for row in cells:
        folded = [_folded(cell, width) for cell, width in zip(row, widths, strict=False)]
        for line in zip_longest(*folded, fillvalue=""):
            print("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip())
    if shown < len(header):
        print_text(f"Too narrow for: {', '.join(header[shown:])}. Widen the terminal, or use --json.")


def _together(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _narrowed(widths: Sequence[int], total: int, least: int) -> list[int]:
    """Widths of which the greatest were reduced until columns two apart fit in `total`, none below `least`; the first, of names, last."""
    narrowed = list(widths)
    while _together(narrowed) > total and max(narrowed) > least:
        others = narrowed[1:] if max(narrowed[1:], default=0) > least else narrowed
        narrowed[len(narrowed) - len(others) + others.index(max(others))] -= 1
    return narrowed


def _folded(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, max(1, width), break_on_hyphens=False) or [""]


def print_scores(records: Sequence[Record], format: str = "terminal", *, sort: str | None = None, caption: str | None = None) -> None:
    """A table of records on standard output, in a format of results.tables and sorted as there. caption: of a LaTeX table."""
    from tips_bench.results.tables import table

    if format == "json":
        print_json(json.loads(table(records, format, sort=sort)))
        return
    sys.stdout.write(table(records, format, width=columns(), color=in_color(sys.stdout), sort=sort, caption=caption))
