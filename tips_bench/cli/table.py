"""tips-bench table: several records in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli.output import print_error, print_scores


def table(
    paths: Annotated[list[Path], typer.Argument(help="Record files, or folders that contain them.")],
    format: Annotated[
        Literal["terminal", "markdown", "csv", "latex", "json"], typer.Option(help="Output format. csv and json keep full precision.")
    ] = "terminal",
) -> None:
    """Print records as a table with 95 % intervals: one row per model and protocol, one column per task.

    Broken records are left out, and named on standard error.

    \b
    Examples:
      tips-bench table results/
      tips-bench table results/ade20k other/record.json --format latex
    """
    from tips_bench.results.folders import read_records
    from tips_bench.results.record import load_record

    records, broken = read_records(paths, load_record)
    for error in broken:
        print_error(error)
    if not records:
        raise typer.Exit(2)
    print_scores(records, format)
