"""tips-bench quickstart: the main job in one command, on the embedded data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.names import Job
from tips_bench.cli.run import evaluate_all, print_records

JOBS = (
    Job("rooms-seg", "tips-nano", None),
    Job("rooms-seg", "tips-nano-random", None),
    Job("rooms-retrieval", "tips-nano", None),
    Job("rooms-retrieval", "tips-nano-random", None),
)
PICTURES = 4


def quickstart(out: Annotated[Path, typer.Option(help="Folder for the records and pictures.")] = Path("results")) -> None:
    """Score the shipped encoder and its random twin on generated rooms, with no download, and print a table with intervals.

    \b
    Example:
      tips-bench quickstart --out results/
    """
    records = evaluate_all(list(JOBS), {"out": out, "pictures": PICTURES})
    if records:
        print_records(records, out)
    if len(records) < len(JOBS):
        raise typer.Exit(2)
