"""What the subcommands print: tables, JSON, errors on one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tips_bench.terminal import in_color, one_line, printable

if TYPE_CHECKING:
    from tips_bench.results.record import Record

# columns where standard output is no terminal, so that a file or a pager gets whole lines
PIPED_WIDTH = 10_000
LONGEST = 1200  # characters of an error; its end says what to do
# cells up to this length are never cut
UNCUT = 24


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


def print_rich(*renderables: Any) -> None:
    """Rich renderables on standard output: as wide as a terminal, and as wide as they are where a program reads them."""
    from rich.console import Console

    colored = in_color(sys.stdout)

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = PipedConsole(width=width, force_terminal=colored, color_system="standard" if colored else None)
    console.print(*renderables, sep="\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, cut: bool = True) -> None:
    """Aligned columns on standard output, one line a row. cut: shorten the longest columns until a line fits the terminal, if it is one."""
    cells = [[one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if cut and sys.stdout.isatty():
        widths = _fit(widths, shutil.get_terminal_size().columns)
    for row in cells:
        line = [spec if len(spec) <= width else f"{spec[: width - 1]}…" for spec, width in zip(row, widths, strict=True)]
        print("  ".join(spec.ljust(width) for spec, width in zip(line, widths, strict=True)).rstrip())


def _fit(widths: list[int], total: int) -> list[int]:
    """Widths of which the greatest were reduced until columns two apart fit in `total`, none below UNCUT."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > total and max(fitted) > UNCUT:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def print_scores(records: Sequence[Record], format: str = "terminal") -> None:
    """A table of records on standard output, in a format of results.tables."""
    from tips_bench.results.tables import table

    if format == "json":
        print_json(json.loads(table(records, format)))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    sys.stdout.write(table(records, format, width=width, color=in_color(sys.stdout)))
