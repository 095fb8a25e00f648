"""Jobs as one array of Slurm, through submitit: queued, limited, preempted and requeued as the cluster does it.

The settings are those of submitit's SlurmExecutor: partition, time (minutes), gpus_per_node, cpus_per_task, mem, qos, account,
array_parallelism and others; and three of ours: max_num_timeout, how often a job that ran out of time is queued again (3);
ranks, by how many processes a job is done (one for each of gpus_per_node); and cluster=local, processes of this machine without
Slurm, to try it out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, Settings, ranks_of
from tips_bench.executors.together import do_together
from tips_bench.journal import say
from tips_bench.wording import counted

LOOK_AGAIN_S, LOOK_IN_QUEUE_S = 0.2, 30.0
WHERE = "--on slurm"
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
    """Queue the jobs; whether all have ended: False on Slurm, which does them when it can, unless the settings say to wait.

    Errors: no submitit, no Slurm on this machine, settings that Slurm or submitit refuse.
    """
    values = dict(settings.values)
    cluster, most = str(values.pop("cluster", "slurm")), values.pop("max_num_timeout", 3)
    ranks = ranks_of(values, "gpus_per_node", "--slurm", alone=settings.alone)
    executor = _executor(cluster, int(most), settings, values)
    if not jobs:
        return True
    try:
        queued = executor.map_array(Work(ranks), list(jobs))
    except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
        raise UserError(
            f"Slurm refused the jobs: {_said(error)}", where=WHERE, fix="Change --slurm, or ask who runs the cluster."
        ) from error
    if cluster == "slurm":
        say(f"queued as array job {queued[0].job_id.partition('_')[0]} of Slurm, {counted(len(queued), 'job')}")
        if not settings.wait:
            return False
    left = {one.job_id: (job, one) for job, one in zip(jobs, queued, strict=True)}
    queue = _Queue()
    while left:
        lost = queue.lost(left) if cluster == "slurm" else set()
        for number, (job, one) in list(left.items()):
            if one.done() or number in lost:
                settings.ended(job, _problem(one))
                del left[number]
        time.sleep(LOOK_AGAIN_S)
    return True


class _Queue:
    """Which jobs have left Slurm's queue. submitit asks Slurm's accounting, without which it never learns of a job that was cancelled."""

    def __init__(self) -> None:
        self._next_look, self._missing = 0.0, set[str]()

    def lost(self, left: Iterable[str]) -> set[str]:
        """Those of these job ids that were not there at two looks one after another: what a job leaves may be seen later than its end."""
        if time.monotonic() < self._next_look:
            return set()
        self._next_look = time.monotonic() + LOOK_IN_QUEUE_S
        there = _in_queue()
        if there is None:
            return set()
        missing = set(left) - there
        lost, self._missing = missing & self._missing, missing
        return lost


def _in_queue() -> set[str] | None:
    """The ids of this user's jobs; None where Slurm does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    asked = subprocess.run(command, capture_output=True, text=True)
    return set(asked.stdout.split()) if asked.returncode == 0 else None


def _executor(cluster: str, most: int, settings: Settings, values: dict[str, str | int]) -> Any:
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
