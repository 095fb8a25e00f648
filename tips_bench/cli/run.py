"""tips-bench run: evaluate models on tasks under protocols."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tips_bench.cli.estimates import print_plan
from tips_bench.cli.executor_options import Jobs, On, Ray, Slurm
from tips_bench.cli.matrix import run_on
from tips_bench.cli.names import number_or_auto, plan, split
from tips_bench.cli.options import DataRoot, Device, Dtype
from tips_bench.cli.output import print_error, print_json, print_line, print_scores
from tips_bench.cli.ranked import one_rank
from tips_bench.cli.run_options import (
    AsJson,
    BatchSize,
    Cache,
    CacheDtype,
    CacheLimit,
    Compile,
    DryRun,
    KeepHead,
    Limit,
    LogTo,
    Metrics,
    Models,
    Out,
    Overrides,
    Pictures,
    Predictions,
    Protocols,
    Rerun,
    Seed,
    Tasks,
    Trial,
    Weights,
    Workers,
)
from tips_bench.errors import UserError, system_fault
from tips_bench.executors.chosen import Chosen, chosen_executor
from tips_bench.journal import say
from tips_bench.progress import below_bars, duration
from tips_bench.registry import LOGGERS, METRICS
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.spec import Spec
    from tips_bench.evaluation.time_left import TimeLeft
    from tips_bench.ranks import World
    from tips_bench.results.record import Record


def run(
    task: Tasks,
    model: Models,
    protocol: Protocols = None,
    out: Out = Path("results"),
    weights: Weights = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    compile: Compile = False,
    batch_size: BatchSize = None,
    workers: Workers = None,
    data_root: DataRoot = None,
    overrides: Overrides = None,
    pictures: Pictures = 0,
    predictions: Predictions = False,
    keep_head: KeepHead = False,
    cache: Cache = False,
    cache_limit: CacheLimit = None,
    cache_dtype: CacheDtype = None,
    limit: Limit = None,
    seed: Seed = 0,
    rerun: Rerun = False,
    metrics: Metrics = None,
    dry_run: DryRun = False,
    trial: Trial = False,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    log_to: LogTo = None,
    as_json: AsJson = False,
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
        "workers": None if workers is None else number_or_auto(workers, "--workers", least=0),
        "out": out,
        "data_root": data_root,
        "overrides": overrides or [],
        "pictures": pictures,
        "predictions": predictions,
        "keep_head": keep_head,
        "cache": cache,
        "cache_limit": cache_limit,
        "cache_dtype": cache_dtype,
        "limit": limit,
        "seed": seed,
        "rerun": rerun,
        "metrics": beside,
    }
    if trial and not dry_run:
        raise UserError("a trial is a part of a plan", where="--trial", fix="Add --dry-run, or leave --trial out.")
    loggers = checked_loggers(log_to)
    with one_rank():
        executor = chosen_executor(on, jobs, slurm, ray)
        if dry_run:
            print_plan(specs, options, rounded or dtype, executor, trial=trial, as_json=as_json)
            whole = True
        elif executor is not None:
            whole = evaluate_elsewhere(specs, options, executor, loggers, as_json)
        else:
            whole = evaluate_here(specs, options, loggers, as_json)
        if failed or not whole:
            raise typer.Exit(2)


def checked_cache(cache: bool, limit: str | None, dtype: str, cache_dtype: str | None) -> str | None:
    """To what features are rounded, None = they are not. Errors: settings of a cache that do not fit."""
    from tips_bench.evaluation.keeping import limit_bytes, rounding

    limit_bytes(cache, limit)
    return rounding(cache, dtype, cache_dtype)


def checked_loggers(said: str | None) -> list[str]:
    """The loggers that --log-to names. Errors: an unknown one, one whose package is not installed."""
    from tips_bench.loggers.base import check_installed

    names = [] if said is None else split(said, "--log-to", LOGGERS.names)
    check_installed(names)
    return names


def evaluate_elsewhere(specs: list[Spec], options: dict[str, Any], executor: Chosen, loggers: list[str], as_json: bool) -> bool:
    """Evaluate as jobs, and print the records where the executor waits for them. Returns whether none is missing of those."""
    records = run_on(specs, options, executor)
    if records is None:
        return True
    for record in records:
        show_in(loggers, record, Path(options["out"]))
    show_records(records, as_json)
    return len(records) == len(specs)


def show_in(loggers: list[str], record: Record, out: Path) -> None:
    """Show a record in loggers. out: the results folder."""
    from tips_bench.results.exchange.logged import log_record

    if loggers:
        log_record(record, loggers, out / "loggers")


def evaluate_here(specs: list[Spec], options: dict[str, Any], loggers: list[str], as_json: bool) -> bool:
    """Evaluate in this process, or as one rank of several, the first of which prints. Returns whether there is a record of each."""
    world = join_ranks(options["device"])  # a wrong device is found before any data are read
    records = evaluate_all(specs, options | {"world": world}, loggers)
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


def evaluate_all(specs: list[Spec], options: dict[str, Any], loggers: list[str]) -> list[Record]:
    """The records of the evaluations that succeeded, in order. The error of one that fails is printed, and the next one starts.

    Of several ranks, one that fails ends: the others may wait for it in the midst of the same evaluation.
    """
    from tips_bench.evaluation.estimate import estimate, shared_passes
    from tips_bench.evaluation.run import RunOptions, evaluate_spec
    from tips_bench.evaluation.time_left import TimeLeft, work_of

    records, chosen, asked = [], RunOptions(**options), len(specs)
    specs = with_data(specs, chosen) if asked > 1 else specs
    found = estimate(specs, chosen.dtype, keep=chosen.cache) if len(specs) > 1 else []
    work = {id(one.spec): work_of(one) for one in found}
    left = TimeLeft([work.get(id(spec), 0.0) for spec in specs])
    if found and chosen.world.is_first:
        images = sum(one.shared for one in found)
        through = f", about {counted(images, 'image')} through encoders" * (images > 0)
        say(f"{len(specs)} evaluations{through}; --dry-run prints what each of them costs")
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
                if chosen.world.is_first:
                    show_in(loggers, record, Path(chosen.out))
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
    if len(records) < asked > 1 and chosen.world.is_first:
        without = f", {asked - len(specs)} have no data here" * (asked > len(specs))
        say(f"{len(records)} of {asked} evaluations have a record, {len(specs) - len(records)} failed{without}")
    return records


def with_data(specs: list[Spec], chosen: RunOptions) -> list[Spec]:
    """Those of several evaluations whose data are here; the others are named once."""
    from tips_bench.catalog import data_root
    from tips_bench.evaluation.task_data import is_absent

    absent = dict.fromkeys(spec.task.name for spec in specs if is_absent(spec, chosen.data_root))
    if absent and chosen.world.is_first:
        count = sum(spec.task.name in absent for spec in specs)
        where = chosen.data_root or data_root()
        fix = "`tips-bench show TASK` says how to get them"
        say(f"{count} of {len(specs)} evaluations are left out: the data of {', '.join(absent)} are not in {where}; {fix}")
    return [spec for spec in specs if spec.task.name not in absent]


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
