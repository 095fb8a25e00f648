"""tips-bench quickstart: the main job in one command, on the embedded data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TASK = "rooms-seg"
MODELS = ("tips-tiny-random", "pixels")
PICTURES = 4


def quickstart(out: Annotated[Path, typer.Option(help="Folder for the records and pictures.")] = Path("results")) -> None:
    """Score two small encoders on generated rooms, with no download, and print a table with intervals.

    \b
    Example:
      tips-bench quickstart --out results/
    """
    from tips_bench.adapters.run import evaluate
    from tips_bench.cli.run import print_records

    records = [evaluate(TASK, model, out=out, pictures=PICTURES) for model in MODELS]
    print_records(records, out)
