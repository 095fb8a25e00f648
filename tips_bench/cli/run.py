"""tips-bench run: evaluate models on tasks under protocols."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tips_bench.cli.complete import list_of
from tips_bench.cli.estimates import print_plan
from tips_bench.cli.executor_options import Jobs, On, Ray, Slurm
from tips_bench.cli.matrix import run_on
from tips_bench.cli.names import number_or_auto, plan, split
from tips_bench.cli.output import print_error, print_json, print_line, print_scores
from tips_bench.cli.ranked import one_rank
from tips_bench.errors import UserError, system_fault
from tips_bench.executors.chosen import Chosen, chosen_executor
from tips_bench.journal import say
from tips_bench.progress import below_bars, duration
from tips_bench.registry import METRICS

if TYPE_CHECKING:
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.spec import Spec
    from tips_bench.evaluation.time_left import TimeLeft
    from tips_bench.ranks import World
    from tips_bench.results.record import Record


def run(
    task: Annotated[
        str,
        typer.Option(
            autocompletion=list_of("task"),
            help="Task names, separated by commas, or `all`. A name may change the images: ade20k+fog-3 (corrupted), "
            "ade20k+rotate-90, ade20k@896 (input size), ade20k+few-64 (1/64 of the training images); fog-1..5 is five "
            "strengths, corruptions-3 every kind.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            autocompletion=list_of("model"),
            help="Models, separated by commas, or `all`. Each is a name from `tips-bench list models`, timm:NAME, hf:REPO, "
            "open_clip:ARCH/TAG, module.path:callable, a model card (.yaml), the folder of an exported model, or a TIPS weight file.",
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            autocompletion=list_of("protocol"),
            help="Protocol names, separated by commas, or `all`. Each task runs under those of them that it allows. "
            "Default: the default protocol of each task.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write the records to.")] = Path("results"),
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights to load: a file for the architecture of the model, `random` or `random:SEED`. Default: as the card says."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N. Default: the first GPU, or cpu if there is none.")] = None,
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Number format in which the encoder computes.")] = "fp32",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile", help="Have torch.compile make code of the encoder for this machine. Numbers then differ in their last digits."
        ),
    ] = False,
    batch_size: Annotated[
        str | None,
        typer.Option(help="Images per batch, or `auto`: found by a trial of a few seconds. Default: 32 on a GPU, 4 on a CPU."),
    ] = None,
    workers: Annotated[
        Any,
        typer.Option(
            parser=str,
            metavar="TEXT",
            help="Number of threads or processes that decode images, or `auto`: found by a short trial. 0: decode in the main thread.",
        ),
    ] = 2,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the data sets. Default: $TIPS_BENCH_DATA, or ./data.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one value of the protocol card. task.KEY and model.KEY change the other two cards. May be given "
            "several times. The record lists each change and is no longer comparable.",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Number of samples to draw: image, ground truth, prediction, PCA of the features.")
    ] = 0,
    cache: Annotated[bool, typer.Option("--cache", help="Keep the features on disk, so that the next run can reuse them.")] = False,
    cache_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="With --cache: how much all kept features may take, as 200GB. Those that were not used for longest are deleted. "
            "Default: $TIPS_BENCH_CACHE_LIMIT, or no limit.",
        ),
    ] = None,
    cache_dtype: Annotated[
        Literal["fp16", "bf16"] | None,
        typer.Option(
            help="With --cache: round features to this number format before they are used and kept. The record is then not comparable. "
            "Default: as the encoder computes them."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only N images of each split. The record is then not comparable.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for everything random.")] = 0,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Evaluate again, even if this version of tips-bench already wrote the record.")
    ] = False,
    metrics: Annotated[str | None, typer.Option(help="Additional metrics, separated by commas, for example boundary-iou.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Print what the evaluations would cost, images and disk, and evaluate nothing.")
    ] = False,
    trial: Annotated[
        bool, typer.Option("--trial", help="With --plan: try each model on this machine for a few seconds, and print hours.")
    ] = False,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Evaluate models on tasks, and write one record (JSON) for each evaluation.

    A protocol says how a task is scored: image size, layers, probe, training.
    If the data or the weights of one evaluation are missing or broken, the error
    is printed and the next evaluation starts. The exit status is then 2.

    \b
    Examples:
      tips-bench run --task ade20k --model tips-g14
      tips-bench run --task ade20k,voc2012 --model tips-b14,tips-l14 --dtype bf16
      tips-bench run --task ade20k,ade20k+fog-1..5 --model tips-b14
      tips-bench run --task rooms-seg --model my_package:build
      torchrun --nproc-per-node 8 -m tips_bench run --task ade20k --model tips-g14
      tips-bench run --task all --model tips-b14,tips-l14 --on local
      tips-bench run --task all --model tips-b14 --on slurm \\
        --slurm partition=gpu,gpus_per_node=1,time=120
      tips-bench run --task ade20k --protocol convex --weights checkpoint.pth \\
        --model timm:vit_base_patch14_dinov2
      tips-bench run --task rooms-seg --model tips-nano \\
        --set probe.patches_per_image=64
    """
    beside = split(metrics, "--metrics", METRICS.names) if metrics else []
    for name in beside:
        METRICS.get(name, where="--metrics")
    rounded = checked_cache(cache, cache_limit, dtype, cache_dtype)
    specs, failed = plan(task, model, protocol, overrides=overrides or [], weights=weights, limit=limit, rounded=rounded)
    for error in failed:
        print_error(error)
    options: dict[str, Any] = {
        "weights": weights,
        "device": device,
        "dtype": dtype,
        "compile": compile,
        "batch_size": None if batch_size is None else number_or_auto(batch_size, "--batch-size", least=1),
        "workers": number_or_auto(str(workers), "--workers", least=0),
        "out": out,
        "data_root": data_root,
        "overrides": overrides or [],
        "pictures": pictures,
        "cache": cache,
        "cache_limit": cache_limit,
        "cache_dtype": cache_dtype,
        "limit": limit,
        "seed": seed,
        "rerun": rerun,
        "metrics": beside,
    }
    if trial and not plan_only:
        raise UserError("a trial is a part of a plan", where="--trial", fix="Add --plan, or leave --trial out.")
    with one_rank():
        executor = chosen_executor(on, jobs, slurm, ray)
        if plan_only:
            print_plan(specs, options, rounded or dtype, executor, trial=trial)
            whole = True
        elif executor is not None:
            whole = evaluate_elsewhere(specs, options, executor, as_json)
        else:
            whole = evaluate_here(specs, options, as_json)
        if failed or not whole:
            raise typer.Exit(2)


def checked_cache(cache: bool, limit: str | None, dtype: str, cache_dtype: str | None) -> str | None:
    """To what features are rounded, None = they are not. Errors: settings of a cache that do not fit."""
    from tips_bench.evaluation.keeping import limit_bytes, rounding

    limit_bytes(cache, limit)
    return rounding(cache, dtype, cache_dtype)


def evaluate_elsewhere(specs: list[Spec], options: dict[str, Any], executor: Chosen, as_json: bool) -> bool:
    """Evaluate as jobs, and print the records where the executor waits for them. Returns whether none is missing of those."""
    records = run_on(specs, options, executor)
    if records is None:
        return True
    show_records(records, as_json)
    return len(records) == len(specs)


def evaluate_here(specs: list[Spec], options: dict[str, Any], as_json: bool) -> bool:
    """Evaluate in this process, or as one rank of several, the first of which prints. Returns whether there is a record of each."""
    world = join_ranks(options["device"])  # a wrong device is found before any data are read
    records = evaluate_all(specs, options | {"world": world})
    if world.is_first:
        show_records(records, as_json)
    return len(records) == len(specs)


def join_ranks(device: str | None) -> World:
    """The ranks of this process; only the first one shows progress. Errors: a device that is not there."""
    from tips_bench import progress, ranks
    from tips_bench.models.devices import resolve_device

    world = ranks.enter(resolve_device(device))
    progress.silence(not world.is_first)
    return world


def evaluate_all(specs: list[Spec], options: dict[str, Any]) -> list[Record]:
    """The records of the evaluations that succeeded, in order. The error of one that fails is printed, and the next one starts.

    Of several ranks, one that fails ends: the others may wait for it in the midst of the same evaluation.
    """
    from tips_bench.evaluation.estimate import shared_passes
    from tips_bench.evaluation.run import RunOptions, evaluate_spec

    records, chosen = [], RunOptions(**options)
    left = time_left(specs, chosen)
    with shared_passes(specs, chosen) as sharing, below_bars(lambda: in_words(left, len(specs))):
        for number, (spec, shared) in enumerate(zip(specs, sharing, strict=True), 1):
            began, record = datetime.now(UTC).isoformat(timespec="seconds"), None
            left.begin()
            if chosen.world.is_first:
                words = in_words(left, len(specs))
                say(f"[{number}/{len(specs)}] {spec.task.name}, {spec.model_name}, {spec.protocol.name}" + (words and f"; {words}"))
            try:
                record = evaluate_spec(spec, chosen, shared=shared)
                records.append(record)
            except UserError as error:
                if chosen.world.size > 1:
                    raise
                print_error(error)
            except OSError as error:
                fault = system_fault(error)
                if fault is None or chosen.world.size > 1:
                    raise
                print_error(fault)
            left.end(counts=record is not None and record.created >= began)
    return records


def time_left(specs: list[Spec], options: RunOptions) -> TimeLeft:
    """Of these evaluations, in their order."""
    from tips_bench.evaluation.estimate import estimate
    from tips_bench.evaluation.time_left import TimeLeft, work_of

    found = estimate(specs, options.dtype, keep=options.cache) if len(specs) > 1 else []
    return TimeLeft([work_of(one) for one in found] or [0.0] * len(specs))


def in_words(left: TimeLeft, number: int) -> str:
    """ "about 12 min left for all 8 evaluations"; empty as long as nothing is known. number: of evaluations."""
    seconds = left.seconds()
    return "" if seconds is None else f"about {duration(seconds)} left for all {number} evaluations"


def show_records(records: list[Record], as_json: bool) -> None:
    """Prints them as JSON, or as `print_records`."""
    if as_json:
        print_json([json.loads(record_path.read_text(encoding="utf-8")) for record in records if (record_path := record.path)])
    elif records:
        print_records(records)


def print_records(records: list[Record]) -> None:
    """Prints a table of these records, then the paths of the records and of their pictures."""
    print_scores(records)
    for record in records:
        print_line(f"record    {record.file}")
        for name in record.pictures:
            print_line(f"picture   {record.file.parent / name}")
