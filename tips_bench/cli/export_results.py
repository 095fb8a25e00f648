"""tips-bench export-results: records in the formats of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from tips_bench.cli.options import local_path
from tips_bench.cli.output import print_error, print_line
from tips_bench.registry import LOGGERS
from tips_bench.wording import counted


def export_results(
    paths: Annotated[list[Path], typer.Argument(help="Record files, or folders that contain them.")],
    to: Annotated[Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write to. Files of the same name are replaced.")],
    format: Annotated[
        Literal["hugging-face", "model-index", "every-eval-ever", "csv", "csv-long", "wandb", "mlflow", "trackio", "tensorboard"],
        typer.Option(help="Whose format, or the logger to show them in."),
    ] = "csv",
    benchmark: Annotated[
        str | None, typer.Option(metavar="OWNER/DATASET", help="hugging-face: the data set on the hub that is the benchmark.")
    ] = None,
    source_url: Annotated[str | None, typer.Option(metavar="URL", help="Where the records can be read, such as your leaderboard.")] = None,
    organization: Annotated[str | None, typer.Option(help="every-eval-ever: who ran the evaluations.")] = None,
    relationship: Annotated[
        Literal["first_party", "third_party", "collaborative", "other"],
        typer.Option(help="every-eval-ever: of the organization to those who made the model."),
    ] = "third_party",
    developer: Annotated[
        str | None, typer.Option(help="every-eval-ever: who made the models whose card names no repository on the hub.")
    ] = None,
    deviating: Annotated[
        bool, typer.Option("--deviating", help="Also records that differ from their protocol. The difference is written beside the number.")
    ] = False,
) -> None:
    """Write records in the formats of others: Hugging Face, Every Eval Ever, CSV.

    hugging-face writes `.eval_results` files for each model's repository and
    the `eval.yaml` of the benchmark; model-index writes the head of each
    model's README.md; every-eval-ever a JSON file a record, with intervals;
    csv one sheet with a row a model and a column a task, as MTEB's tables, and
    a list of what its columns are; csv-long a row a metric, with intervals.
    wandb, mlflow, trackio and tensorboard get a run for each record; without
    an account or a server, their files are in the folder.

    \b
    Examples:
      tips-bench export-results results/ --to export/
      tips-bench export-results results/ --to export/ --format mlflow
      tips-bench export-results results/ --to export/ \\
          --format hugging-face --benchmark my-lab/tips-bench
      tips-bench export-results results/ --to export/ \\
          --format every-eval-ever --organization "My lab" --developer my-lab
    """
    from tips_bench.files import write_text
    from tips_bench.results.exchange.files import Format, Origin, exported, may_leave
    from tips_bench.results.folders import read_records
    from tips_bench.results.record import load_record

    records, broken = read_records(paths, load_record)
    for error in broken:
        print_error(error)
    kept, held_back = may_leave(records, deviating=deviating)
    if format in LOGGERS.names():
        from tips_bench.results.exchange.logged import log_record

        for record in kept:
            log_record(record, [format], to)
        print_line(f"{counted(len(kept), 'record')} in {format}; files that it keeps are in {to}")
    else:
        origin = Origin(benchmark, source_url, organization, relationship, developer)
        files = list(exported(kept, cast(Format, format), origin)) if kept else []
        for place, text in files:
            write_text(to / place, text)
        print_line(f"{counted(len(kept), 'record')}, {counted(len(files), 'file')} in {to}")
    if held_back:
        print_line(f"left out: {counted(len(held_back), 'record')} with deviations from the protocol; --deviating takes them, too")
    if broken or not kept:
        raise typer.Exit(2)
