"""tips-bench run: score models on tasks under protocols."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tips_bench.cli.names import plan, split
from tips_bench.cli.output import print_error, print_json, print_scores
from tips_bench.errors import UserError
from tips_bench.registry import METRICS

if TYPE_CHECKING:
    from tips_bench.evaluation.spec import Spec
    from tips_bench.results.record import Record


def run(
    task: Annotated[str, typer.Option(help="Task names, a comma list, or `all`.")],
    model: Annotated[
        str,
        typer.Option(
            help="Zoo names, timm:NAME, hf:REPO, open_clip:ARCH/TAG, module.path:callable, card files, folders of exported models or "
            "weight files of TIPS; a comma list, or `all`."
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol names, a comma list, of which each task is run under those that it allows; `all` are all of these."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = Path("results"),
    weights: Annotated[
        str | None, typer.Option(help="A weight file of the model's architecture, `random` or `random:SEED`; the card's otherwise.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; the first GPU where there is one, otherwise.")] = None,
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Precision of the encoder.")] = "fp32",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images a batch.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads or processes that decode images; 0 for none.")] = 2,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets; $TIPS_BENCH_DATA or ./data otherwise.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a value of the protocol's card, or task.KEY, model.KEY of the other two (repeatable); the record says so.",
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Samples to draw: image, truth, prediction, PCA of the features.")] = 0,
    cache: Annotated[bool, typer.Option("--cache", help="Keep the features on disk for the next run.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only N images of each split; the record is not comparable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all that is random.")] = 0,
    rerun: Annotated[bool, typer.Option("--rerun", help="Score again what this version has scored already.")] = False,
    metrics: Annotated[str | None, typer.Option(help="Metrics to score beside the task's own, such as boundary-iou; a comma list.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Score models on tasks under protocols, and keep a record of each.

    An evaluation that fails on its data or weights is reported and the next one is run; the exit status is then 2.

    \b
    Examples:
      tips-bench run --task ade20k --model tips-g14
      tips-bench run --task ade20k,voc2012 --model tips-b14,tips-l14 --dtype bf16
      tips-bench run --task ade20k --protocol convex --model timm:vit_base_patch14_dinov2 --weights my_run/checkpoint.pth
      tips-bench run --task rooms-seg --model my_package:build --set probe.patches_per_image=64
    """
    specs = plan(task, model, protocol, overrides=overrides or [], weights=weights, limit=limit)
    options: dict[str, Any] = {
        "weights": weights,
        "device": device,
        "dtype": dtype,
        "batch_size": batch_size,
        "workers": workers,
        "out": out,
        "data_root": data_root,
        "overrides": overrides or [],
        "pictures": pictures,
        "cache": cache,
        "limit": limit,
        "seed": seed,
        "rerun": rerun,
        "metrics": split(metrics, "--metrics", METRICS.names) if metrics else [],
    }
    records = evaluate_all(specs, options)
    if as_json:
        print_json([json.loads(record_path.read_text(encoding="utf-8")) for record in records if (record_path := record.path)])
    elif records:
        print_records(records)
    if len(records) < len(specs):
        raise typer.Exit(2)


def evaluate_all(specs: list[Spec], options: dict[str, Any]) -> list[Record]:
    """The records of what could be scored, in order; what stands in the way of another is printed and the next one is tried."""
    from tips_bench.evaluation.run import RunOptions, evaluate_spec

    records = []
    for number, spec in enumerate(specs, 1):
        print(f"[{number}/{len(specs)}] {spec.task.name}, {spec.model_name}, {spec.protocol.name}", file=sys.stderr)
        try:
            records.append(evaluate_spec(spec, RunOptions(**options)))
        except UserError as error:
            print_error(error)
    return records


def print_records(records: list[Record]) -> None:
    """The table of these records, then where they and their pictures lie."""
    print_scores(records)
    for record in records:
        print(f"record    {record.file}")
        for name in record.pictures:
            print(f"picture   {record.file.parent / name}")
