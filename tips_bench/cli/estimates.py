"""`run --dry-run`: what evaluations would ask of the backbone and of the disk, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tips_bench.cli.output import print_error, print_json, print_table, print_text
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.evaluation.estimate import Estimate
    from tips_bench.evaluation.spec import Spec
    from tips_bench.executors.chosen import Chosen


def print_plan(
    specs: list[Spec], options: dict[str, Any], kept: str, executor: Chosen | None, *, trial: bool, as_json: bool = False
) -> None:
    """A row an evaluation, then all of them together. options: fields of RunOptions.

    kept: number format of features on the disk. trial: find hours by a trial of each encoder. as_json: numbers in full instead.
    """
    from tips_bench.evaluation.estimate import estimate
    from tips_bench.evaluation.hours import encoder_hours
    from tips_bench.evaluation.run import RunOptions

    found = estimate(specs, kept, keep=options["cache"])
    hours = encoder_hours(found, RunOptions(**options), print_error) if trial else [None] * len(found)
    if as_json:
        print_json([_as_data(one, own) for one, own in zip(found, hours, strict=True)])
        return
    print_table(["task", "model", "protocol", "images", "shared", "disk GB", *(["hours"] if trial else [])], _rows(found, hours, trial))
    print_text("images: through the backbone, if each evaluation is run by itself; an estimate from the cards.")
    print_text("shared: of these, what is left in this order where evaluations of the same images share one pass.")
    if trial:
        print_text("hours: of these in the encoder, by a trial on this machine; an estimate. Training and fitting of probes come on top.")
    if (trial and None in hours) or not all(one.alone for one in found):
        untried = ", or the model could not be tried" if trial else ""
        print_text(f"-: not known, for the card does not say how many images there are{untried}.")
    if trial and executor is not None:
        print_text(_from_start_to_end(found, hours, executor, options["device"]))


def _rows(found: Sequence[Estimate], hours: Sequence[float | None], trial: bool) -> list[list[str]]:
    rows = []
    for one, own in zip(found, hours, strict=True):
        names = one.spec.task.name, one.spec.model_name, one.spec.protocol.name
        numbers = [f"{one.alone:,}", f"{one.shared:,}", f"{one.disk / 1e9:.1f}"] if one.alone else ["-"] * 3
        rows.append([*names, *numbers, *([_shown(own)] if trial else [])])
    alone, shared, disk = (sum(getattr(one, name) for one in found) for name in ("alone", "shared", "disk"))
    known = sum(own for own in hours if own is not None)
    return [*rows, ["all", "", "", f"{alone:,}", f"{shared:,}", f"{disk / 1e9:.1f}", *([_shown(known)] if trial else [])]]


def _as_data(one: Estimate, hours: float | None) -> dict[str, Any]:
    """images, shared and disk_bytes are null where the cards do not say how many images there are; hours without a trial, too."""
    known = bool(one.alone)
    return {
        "task": one.spec.task.name,
        "model": one.spec.model_name,
        "protocol": one.spec.protocol.name,
        "images": one.alone if known else None,
        "shared": one.shared if known else None,
        "disk_bytes": one.disk if known else None,
        "hours": hours,
    }


def _shown(hours: float | None) -> str:
    if hours is None:
        return "-"
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _from_start_to_end(found: Sequence[Estimate], hours: Sequence[float | None], executor: Chosen, device: str | None) -> str:
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
    jobs, longest = hours_of_jobs(found, hours, at_once)
    together = f"{at_once} at a time" if at_once else "all at a time"
    by = f", each by {ranks} ranks" if ranks > 1 else ""
    return f"--on {executor.name}: {_shown(longest / ranks)} hours from start to end, {counted(jobs, 'job')}, {together}{by}."
