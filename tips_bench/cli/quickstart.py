"""tips-bench quickstart: the main job in one command, on the embedded data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.names import Job
from tips_bench.cli.run import evaluate_all, print_records

TASK = "rooms-seg"
MODELS = ("tips-tiny-random", "pixels")
PICTURES = 4


def quickstart(out: Annotated[Path, typer.Option(help="Folder for the records and pictures.")] = Path("results")) -> None:
    """Score two small encoders on generated rooms, with no download, and print a table with intervals.

    \b
    Example:
      tips-bench quickstart --out results/
    """
    records = evaluate_all([Job(TASK, model, None) for model in MODELS], {"out": out, "pictures": PICTURES})
    if records:
        print_records(records, out)
    if len(records) < len(MODELS):
        raise typer.Exit(2)
