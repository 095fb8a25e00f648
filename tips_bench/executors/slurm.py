"""Jobs as one array of Slurm, through submitit: queued, limited, preempted and requeued as the cluster does it.

The settings are those of submitit's SlurmExecutor: partition, time (minutes), gpus_per_node, cpus_per_task, mem, qos, account,
array_parallelism, setup (commands before Python starts) and others; and three of ours: max_num_timeout, how often a job that ran out of
time is queued again (3); ranks, by how many processes a job is done (one for each GPU); and cluster=local, processes of this machine
without Slurm, to try it out. A job is one process on one machine, which starts its ranks itself.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, Settings, is_whole, ranks_of
from tips_bench.executors.queue import Queue
from tips_bench.executors.together import do_together
from tips_bench.journal import say

LOOK_AGAIN_S = 0.2
WHERE = "--on slurm"
LISTS, ONE_ONLY = ("setup", "teardown", "srun_args"), ("nodes", "ntasks_per_node")
DEFAULTS: dict[str, dict[str, str | int]] = {"slurm": {"job_name": "tips-bench", "time": 60}, "local": {"timeout_min": 60 * 24 * 7}}


class Work:
    """What submitit calls: one job, by `ranks` processes. Preempted or out of time, it is queued again and goes on where it stopped."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def __call__(self, job: Job) -> Any:
        """What the function of the job returns."""
        return do_together(job, self.ranks)

    def checkpoint(self, job: Job) -> Any:
        """What submitit puts into the queue again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def run(jobs: Sequence[Job], settings: Settings) -> bool:
    """Queue the jobs; whether all have ended: False on Slurm, which does them when it can, if `settings.queued` is to be told.

    Errors: no submitit, no Slurm on this machine, settings that Slurm or submitit refuse.
    """
    values = dict(settings.values)
    cluster, most = str(values.pop("cluster", "slurm")), values.pop("max_num_timeout", 3)
    _check(values, most)
    ranks = ranks_of(values, "gpus_per_node", "--slurm", alone=settings.alone)
    executor = _executor(cluster, most, settings, values)
    later = settings.queued if cluster == "slurm" else None
    if not jobs:
        return later is None
    try:
        queued = executor.map_array(Work(ranks), list(jobs))
    except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
        raise UserError(
            f"Slurm refused the jobs: {_said(error)}", where=WHERE, fix="Change --slurm, or ask who runs the cluster."
        ) from error
    if cluster == "slurm":
        say(f"queued as array job {queued[0].job_id.partition('_')[0]} of Slurm, {len(queued)} jobs")
    if later is not None:
        for job, one in zip(jobs, queued, strict=True):
            later(job, one.job_id, one.paths.stderr)
        return False
    left = {one.job_id: (job, one) for job, one in zip(jobs, queued, strict=True)}
    queue = Queue()
    while left:
        lost = queue.lost(left) if cluster == "slurm" else set()
        for number, (job, one) in list(left.items()):
            if one.done() or number in lost:
                settings.ended(job, _problem(one))
                del left[number]
        time.sleep(LOOK_AGAIN_S)
    return True


def _check(values: dict[str, Any], most: Any) -> None:
    """Errors: settings that submitit would take, and that would do something else than they say."""
    if not is_whole(most, 0):
        raise UserError(f"max_num_timeout={most} is not a whole number", where="--slurm", fix="Write, for example, max_num_timeout=3.")
    for name in LISTS:
        if not isinstance(found := values.get(name, []), list) or not all(isinstance(one, str) for one in found):
            raise UserError(f"{name}={found} is not a list of texts", where="--slurm", fix=_in_a_file(name, "[first, second]"))
    if not isinstance(values.get("additional_parameters", {}), dict):
        raise UserError("additional_parameters is not a mapping", where="--slurm", fix=_in_a_file("additional_parameters", "{nice: 100}"))
    for name in ONE_ONLY:
        if values.get(name, 1) != 1:
            fix = "Leave it out; ranks=N, or several GPUs, are for several processes of a job."
            raise UserError(f"{name}={values[name]}, but a job is one process on one machine", where="--slurm", fix=fix)
    if "num_gpus" in values:
        raise UserError("num_gpus is an old name", where="--slurm", fix=f"Write gpus_per_node={values['num_gpus']}.")


def _in_a_file(name: str, value: str) -> str:
    return f"Write `{name}: {value}` into a YAML file, and give it with --slurm @FILE.yaml."


def _executor(cluster: str, most: int, settings: Settings, values: dict[str, Any]) -> Any:
    if importlib.util.find_spec("submitit") is None:
        raise UserError("submitit is not installed", where=WHERE, fix="Run `pip install 'tips-bench[slurm]'`.")
    import submitit

    if cluster not in DEFAULTS:
        raise UserError(f"cluster={cluster} is not known", where="--slurm", fix="Leave it out, or use cluster=local.")
    if cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
        fix = "Run it on a login node of the cluster, or use --on local."
        raise UserError("there is no sbatch on this machine", where=WHERE, fix=fix)
    try:
        executor_class: Any = submitit.SlurmExecutor if cluster == "slurm" else submitit.LocalExecutor
        executor = executor_class(folder=settings.logs, max_num_timeout=most)
        executor.update_parameters(**{**DEFAULTS[cluster], **values})
    except (ValueError, TypeError, NameError) as error:
        raise UserError(str(error).splitlines()[0], where="--slurm", fix="The names are those of submitit's SlurmExecutor.") from error
    return executor


def _problem(job: Any) -> str:
    """Why a job that has ended did not end well; "" if it did."""
    if not job.paths.result_pickle.exists():
        return f"the process ended early; its log is {job.paths.stderr}"
    return "" if job.exception() is None else f"the job met a bug, or a process of it ended; its log is {job.paths.stderr}"


def _said(error: Exception) -> str:
    output = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    return " ".join((output.decode(errors="replace") if isinstance(output, bytes) else str(output)).split())[:300]
