"""Jobs as tasks of a Ray cluster that runs already. All its machines see the results folder and the data under the same paths.

The settings: address, "auto" unless it is given; num_gpus and num_cpus of a task, 1 GPU where the machine that starts them has
one and the jobs may use it;
ranks, by how many processes a task is done (one for each of num_gpus); max_retries, how often a task whose machine or process died is
started again (3).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, Settings, is_whole, ranks_of
from tips_bench.executors.together import do_together

WHERE = "--on ray"
KNOWN = ("address", "num_gpus", "num_cpus", "ranks", "max_retries")


def run(jobs: Sequence[Job], settings: Settings) -> bool:
    """Do the jobs; True, for all have ended then. Of no jobs it only checks the settings.

    Errors: no Ray, no cluster at the address, a setting that is not known or of the wrong kind.
    """
    values = dict(settings.values)
    unknown = [name for name in values if name not in KNOWN]
    if unknown:
        raise UserError(f"there is no setting {unknown[0]!r}", where="--ray", fix=f"Known: {', '.join(KNOWN)}.")
    _check(values)
    ranks = ranks_of(values, "num_gpus", "--ray", alone=settings.alone)
    if importlib.util.find_spec("ray") is None:
        raise UserError("Ray is not installed", where=WHERE, fix="Run `pip install 'tips-bench[ray]'`.")
    if not jobs:
        return True
    import ray

    address = str(values.pop("address", "auto"))
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        fix = "Start one with `ray start --head`, or give the address of one with --ray address=HOST:PORT."
        raise UserError(f"no Ray cluster answers at {address!r}", where=WHERE, fix=fix) from error
    try:
        _do(ray, jobs, settings, ranks, {"num_gpus": _gpus(jobs), "max_retries": 3, **values})
    finally:
        ray.shutdown()
    return True


def _check(values: dict[str, Any]) -> None:
    """Errors: settings that Ray would refuse in words of its own."""
    for name in ("num_gpus", "num_cpus"):
        number = values.get(name, 0)
        if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
            raise UserError(f"{name}={number} is not a number from 0", where="--ray", fix=f"Write, for example, {name}=1.")
    if values.get("num_gpus", 0) > 1 and values["num_gpus"] % 1:
        fix = "Write a whole number, or a part of one GPU, such as num_gpus=0.5."
        raise UserError(f"num_gpus={values['num_gpus']} is more than one GPU, and not whole", where="--ray", fix=fix)
    if not is_whole(values.get("max_retries", 0), -1):
        fix = "Write, for example, max_retries=3; -1 = as often as it takes."
        raise UserError(f"max_retries={values['max_retries']} is not a whole number from -1", where="--ray", fix=fix)


def _do(ray: Any, jobs: Sequence[Job], settings: Settings, ranks: int, needs: dict[str, Any]) -> None:
    task = ray.remote(**needs)(do_together)
    left = {task.remote(job, ranks): job for job in jobs}
    while left:
        (done,), _ = ray.wait(list(left), num_returns=1)
        job = left.pop(done)
        try:
            ray.get(done)
        except ray.exceptions.RayTaskError as error:
            settings.ended(job, f"the job met a bug: {str(error).strip().splitlines()[-1]}")
        except ray.exceptions.RayError as error:
            settings.ended(job, str(error).strip().splitlines()[0])
        else:
            settings.ended(job, "")


def _gpus(jobs: Sequence[Job]) -> int:
    if all(job["device"] == "cpu" for job in jobs):
        return 0
    import torch

    return int(torch.cuda.is_available())
