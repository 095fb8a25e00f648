"""tips-bench corpus: data for pretraining, from links or folders of images to shards that `train` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tips_bench.cli.output import print_json, print_rich

EXAMPLES = """Make data for pretraining: shards of images with captions, and what is known of them.

\b
Examples:
  tips-bench corpus check raw/
"""
app = typer.Typer(help=EXAMPLES, no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The folder of a corpus, or of shards as webdataset or img2dataset write them.")]


@app.command("check")
def check(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Read every sample of a corpus, and print what was found.

    Exit status 1 if there is something that training would stop at.

    \b
    Examples:
      tips-bench corpus check raw/
      tips-bench corpus check raw/ --json
    """
    from tips_bench.corpus.check import check_corpus

    report = check_corpus(folder)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_rich(*report.render())
    if report.faults:
        raise typer.Exit(1)
