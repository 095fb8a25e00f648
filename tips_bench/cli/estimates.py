"""`run --dry-run`: what evaluations would ask of the backbone and of the disk, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tips_bench.cli.output import print_error, print_json, print_table, print_text
from tips_bench.results.cost import precision_of
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.evaluation.estimate import Estimate
    from tips_bench.evaluation.spec import Spec
    from tips_bench.executors.chosen import Chosen
    from tips_bench.executors.matrix import State

DONE = ("done", "running", "queued")  # these need no job


@dataclass(frozen=True)
class _Row:
    """An evaluation of the plan. hours: in the encoder, None = not known. job: its number, None = it needs none, or there are no jobs."""

    found: Estimate
    hours: float | None
    state: State
    job: int | None


def print_plan(
    specs: list[Spec], options: dict[str, Any], kept: str, executor: Chosen | None, *, trial: bool, as_json: bool = False
) -> None:
    """A row an evaluation, then all of them together. options: fields of RunOptions.

    kept: number format of features on the disk. trial: find hours by a trial of each encoder. as_json: numbers in full instead.
    """
    from tips_bench.evaluation.hours import encoder_hours
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.task_data import counted_on_disk, is_absent

    state, root = _state(specs, options), options["data_root"]
    found = _left([counted_on_disk(spec, root) for spec in specs], state, options, kept)
    hours = encoder_hours(found, RunOptions(**options), print_error) if trial else [None] * len(found)
    jobs = _jobs(specs, state) if executor else [None] * len(found)
    rows = [_Row(*row) for row in zip(found, hours, state, jobs, strict=True)]
    if as_json:
        print_json([_as_data(row) for row in rows])
        return
    _print_table(rows, trial=trial, on=executor is not None)
    print_text("images: through the backbone, if each evaluation is run by itself; an estimate from the cards.")
    print_text("shared: of these, what is left in this order where evaluations of the same images share one pass.")
    if options["cache"]:
        print_text("What lies in the cache, as far as the notes of earlier runs tell, is taken off.")
    if set(state) != {"left"}:
        states = ", ".join(f"{state.count(name)} {name}" for name in (*DONE, "failed", "left") if name in state)
        print_text(f"{states}. Only what has failed or is left costs anything more.")
    if trial:
        print_text("hours: of these in the encoder, by a trial on this machine; an estimate. Training and fitting of probes come on top.")
    if (trial and None in hours) or not all(one.alone for one in found):
        untried = ", or the model could not be tried" if trial else ""
        print_text(f"-: not known, for the card does not say how many images there are{untried}.")
    if absent := sorted({spec.task.name for spec in specs if is_absent(spec, root)}):
        print_text(f"Not here: the data of {', '.join(absent)}. How to get them: tips-bench show TASK.")
    if trial and executor is not None:
        print_text(_from_start_to_end([row for row in rows if row.job is not None], executor, options["device"]))


def _state(specs: Sequence[Spec], options: dict[str, Any]) -> list[State]:
    """Of each evaluation, as the results folder and Slurm's queue tell it."""
    from tips_bench.executors import matrix, queue
    from tips_bench.executors.evaluations import asked_for

    if options["rerun"]:
        return ["left"] * len(specs)
    asked = [asked_for(spec, options) for spec in specs]
    out = Path(options["out"])
    return [one.state for one in queue.ask_queue(out, matrix.status(out, asked, clean=True))]


def _left(specs: Sequence[Spec], state: Sequence[State], options: dict[str, Any], dtype: str) -> list[Estimate]:
    """Estimates of which nothing is left where an evaluation needs no job."""
    from tips_bench.evaluation.estimate import estimate, nothing_kept
    from tips_bench.evaluation.passes import images_kept

    device = options["device"] and str(options["device"]).partition(":")[0]
    precision = precision_of(options["dtype"], options["compile"])
    kept = partial(images_kept, precision=precision, device=device) if options["cache"] else nothing_kept
    rest = [spec for spec, one in zip(specs, state, strict=True) if one not in DONE]
    left = iter(estimate(rest, dtype, keep=options["cache"], kept=kept))
    whole = zip(estimate(specs, dtype), state, strict=True)
    return [replace(one, shared=0, disk=0, sizes={}) if of in DONE else next(left) for one, of in whole]


def _jobs(specs: Sequence[Spec], state: Sequence[State]) -> list[int | None]:
    """The number of the job, from 1, that does each of the evaluations that are left."""
    from tips_bench.evaluation.sharing import job_key

    numbers: dict[tuple[str, ...], int] = {}
    left = [(spec, one not in DONE) for spec, one in zip(specs, state, strict=True)]
    return [numbers.setdefault(job_key(spec), len(numbers) + 1) if is_left else None for spec, is_left in left]


def _print_table(rows: Sequence[_Row], *, trial: bool, on: bool) -> None:
    """state: a column where some evaluations are not left. on: jobs have a column."""
    states = any(row.state != "left" for row in rows)
    more = [name for name, shown in (("state", states), ("job", on)) if shown]
    cells = []
    for row in rows:
        one, own = row.found, {"state": row.state, "job": str(row.job or "")}
        names = one.spec.task.name, one.spec.model_name, one.spec.protocol.name
        numbers = [f"{one.alone:,}", f"{one.shared:,}", f"{one.disk / 1e9:.1f}"] if one.alone else ["-"] * 3
        cells.append([*names, *(own[name] for name in more), *numbers, *([_shown(row.hours)] if trial else [])])
    alone, shared, disk = (sum(getattr(row.found, name) for row in rows) for name in ("alone", "shared", "disk"))
    known = [_shown(sum(row.hours or 0.0 for row in rows))] if trial else []
    numbers = [f"{alone:,}", f"{shared:,}", f"{disk / 1e9:.1f}"] if alone else ["-"] * 3
    cells.append(["all", "", "", *([""] * len(more)), *numbers, *known])
    print_table(["task", "model", "protocol", *more, "images", "shared", "disk GB", *(["hours"] if trial else [])], cells)


def _as_data(row: _Row) -> dict[str, Any]:
    """images, shared and disk_bytes are null where the cards do not say how many images there are; hours without a trial, too.

    job: null of what is done, running or queued, and without --on.
    """
    one, known = row.found, bool(row.found.alone)
    return {
        "task": one.spec.task.name,
        "model": one.spec.model_name,
        "protocol": one.spec.protocol.name,
        "state": row.state,
        "job": row.job,
        "images": one.alone if known else None,
        "shared": one.shared if known else None,
        "disk_bytes": one.disk if known else None,
        "hours": row.hours,
    }


def _shown(hours: float | None) -> str:
    if hours is None:
        return "-"
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _from_start_to_end(rows: Sequence[_Row], executor: Chosen, device: str | None) -> str:
    """A sentence: the hours of all jobs where an executor does several at a time, each perhaps by several ranks."""
    from tips_bench.evaluation.hours import hours_of_jobs
    from tips_bench.executors.jobs import ranks_of
    from tips_bench.executors.local import jobs_at_once

    at_once, ranks, values = None, 1, dict(executor.values)
    if executor.name == "local":
        at_once = jobs_at_once(device, executor.at_once)
    elif executor.name == "slurm":
        ranks, most = ranks_of(values, "gpus_per_node", "--slurm"), values.get("array_parallelism")
        at_once = most if isinstance(most, int) else None
    elif executor.name == "ray":
        ranks = ranks_of(values, "num_gpus", "--ray")
    jobs, longest, whole = hours_of_jobs([row.found for row in rows], [row.hours for row in rows], at_once)
    together = f"{at_once} at a time" if at_once else "all at a time"
    by = f", each by {ranks} ranks" if ranks > 1 else ""
    said = f"{_shown(whole / ranks)} hours from start to end, {_shown(longest / ranks)} of the longest job"
    return f"--on {executor.name}: {said}, {counted(jobs, 'job')}, {together}{by}."
