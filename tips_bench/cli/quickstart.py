"""tips-bench quickstart: the main job in one command, on the embedded data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.run import evaluate_all, print_records

TASKS = ("rooms-seg", "rooms-retrieval")
MODELS = ("tips-nano", "tips-nano-random")
PICTURES = 4


def quickstart(out: Annotated[Path, typer.Option(help="Folder for the records and pictures.")] = Path("results")) -> None:
    """Score the shipped encoder and its random twin on generated rooms, with no download, and print a table with intervals.

    \b
    Example:
      tips-bench quickstart --out results/
    """
    from tips_bench.evaluation.spec import resolve

    specs = [resolve(task, model) for task in TASKS for model in MODELS]
    records = evaluate_all(specs, {"out": out, "pictures": PICTURES})
    if records:
        print_records(records)
    if len(records) < len(specs):
        raise typer.Exit(2)
