"""tips-bench quickstart: a complete evaluation in one command, on generated data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.options import local_path
from tips_bench.cli.run import evaluate_all, print_records

TASKS = ("rooms-seg", "rooms-retrieval")
MODELS = ("tips-nano", "tips-nano-random")
PICTURES = 4


def quickstart(
    out: Annotated[Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write the records and pictures to.")] = Path(
        "results"
    ),
) -> None:
    """Evaluate a small pretrained encoder and the same encoder with random weights, and print a table. Takes about a minute.

    Nothing is downloaded: the images are generated rooms.

    \b
    Example:
      tips-bench quickstart --out results/
    """
    from tips_bench.evaluation.spec import resolve

    specs = [resolve(task, model) for task in TASKS for model in MODELS]
    records = evaluate_all(specs, {"out": out, "pictures": PICTURES}, [])
    if records:
        print_records(records)
    if len(records) < len(specs):
        raise typer.Exit(2)
