"""tips-bench table: records side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli.output import print_error, print_scores


def table(
    paths: Annotated[list[Path], typer.Argument(help="Records, and folders that hold them.")],
    format: Annotated[
        Literal["terminal", "markdown", "csv", "latex", "json"], typer.Option(help="csv and json keep full precision.")
    ] = "terminal",
) -> None:
    """Print a table of records with 95 % intervals: a row per model and protocol, a column per task.

    A broken record in a folder is named on standard error and left out.

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
