"""tips-bench table: several records in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli.complete import list_of
from tips_bench.cli.names import split
from tips_bench.cli.output import print_error, print_scores


def table(
    paths: Annotated[list[Path], typer.Argument(help="Record files, or folders that contain them.")],
    task: Annotated[
        str | None, typer.Option(autocompletion=list_of("task"), help="Show these tasks only; commas, and `*` as in a shell.")
    ] = None,
    model: Annotated[str | None, typer.Option(autocompletion=list_of("model"), help="Show these models only, in the same way.")] = None,
    protocol: Annotated[
        str | None, typer.Option(autocompletion=list_of("protocol"), help="Show these protocols only, in the same way.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Show this metric, as mAcc, in place of each task's primary one.")] = None,
    sort: Annotated[str | None, typer.Option(metavar="TASK|model", help="Best on this task first. Default: by protocol.")] = None,
    format: Annotated[
        Literal["terminal", "markdown", "csv", "latex"], typer.Option(help="Output format. csv keeps full precision.")
    ] = "terminal",
    caption: Annotated[str | None, typer.Option(help="With --format latex: a table with this caption, not a tabular alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at full precision.")] = False,
) -> None:
    """Print records as a table with 95 % intervals: one row per model and protocol, one column per task.

    Broken records are left out, and named on standard error.

    \b
    Examples:
      tips-bench table results/
      tips-bench table results/ --task 'rooms-*' --sort rooms-seg
      tips-bench table results/ --metric mAcc --protocol convex
      tips-bench table results/ --format latex --caption "Frozen encoders"
    """
    from tips_bench.results.folders import read_records
    from tips_bench.results.record import load_record
    from tips_bench.results.table_choice import chosen, with_metric

    def patterns(said: str | None, option: str) -> list[str]:
        return [] if said is None else split(said, option, lambda: ["*"])

    records, broken = read_records(paths, load_record)
    for error in broken:
        print_error(error)
    if not records:
        raise typer.Exit(2)
    of_tasks, of_models, of_protocols = patterns(task, "--task"), patterns(model, "--model"), patterns(protocol, "--protocol")
    records = chosen(records, tasks=of_tasks, models=of_models, protocols=of_protocols)
    records = records if metric is None else with_metric(records, metric)
    print_scores(records, "json" if as_json else format, sort=sort, caption=caption)
