"""What the verbs print: tables, JSON, the one line of an error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tips_bench.results.record import Record

# columns where standard output is no terminal, so that a file or a pager gets whole lines
PIPED_WIDTH = 10_000


def print_error(error: Exception) -> None:
    """One line on standard error, whatever the message holds (a hostile file's name may hold line breaks or escapes)."""
    line = " ".join(str(error).split())
    print(f"tips-bench: {''.join(c if c.isprintable() else '?' for c in line)}", file=sys.stderr)


def print_json(data: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def print_rich(*renderables: Any) -> None:
    """Rich renderables on standard output: as wide as a terminal, and as wide as they are where a program reads them."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = PipedConsole() if sys.stdout.isatty() else PipedConsole(width=PIPED_WIDTH)
    console.print(*renderables, sep="\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns on standard output: wrapped to a terminal's width, one line a row where a program reads them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=position == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_rich(table)


def print_scores(records: Sequence[Record], format: str = "terminal") -> None:
    """A table of records on standard output, in a format of results.tables."""
    from tips_bench.results.tables import table

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else PIPED_WIDTH
    sys.stdout.write(table(records, format, width=width, color=terminal))
