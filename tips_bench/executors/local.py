"""Jobs as processes of this machine: one at a time on each GPU, or --jobs at a time.

A process sees its GPU alone and takes its share of the processors. It ends when the one that started it ends, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, Settings
from tips_bench.files import write_text

LOOK_AGAIN_S = 0.05
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    file: Path


def run(jobs: Sequence[Job], settings: Settings) -> bool:
    """Do the jobs; True, for all have ended then. Errors: the results folder takes no file, settings that are not for this executor."""
    if settings.values:
        raise UserError(f"{next(iter(settings.values))!r} is no setting of the local executor", where="--on local", fix="Use --jobs N.")
    environments = _environments(jobs[0]["device"] if jobs else None, settings.at_once)
    waiting, running = list(enumerate(jobs)), dict[int, _Running]()
    try:
        while waiting or running:
            for slot, environment in enumerate(environments):
                if slot in running and running[slot].process.poll() is not None:
                    _end(running.pop(slot), settings)
                if slot not in running and waiting:
                    number, job = waiting.pop(0)
                    running[slot] = _start(number, job, environment, settings.logs)
            time.sleep(LOOK_AGAIN_S)
    finally:
        for one in running.values():
            one.process.kill()
            one.process.communicate()
            one.file.unlink(missing_ok=True)
    return True


def _start(number: int, job: Job, environment: dict[str, str], logs: Path) -> _Running:
    file = logs / f"local-{os.getpid()}-{number}.json"
    write_text(file, json.dumps(job))
    command = [sys.executable, "-m", "tips_bench.executors.work", str(file)]
    with file.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return _Running(job, process, file)


def _end(one: _Running, settings: Settings) -> None:
    one.process.communicate()
    one.file.unlink(missing_ok=True)
    status, log = one.process.returncode, one.file.with_suffix(".log")
    killed = f"the process was ended by {signal.Signals(-status).name}" if status < 0 else f"the process ended with status {status}"
    settings.ended(one.job, "" if status == 0 else f"{killed}; its log is {log}")


def _environments(device: str | None, at_once: int | None) -> list[dict[str, str]]:
    """Of each job that runs at a time: its GPU and its threads. A number of threads that the user has set stays."""
    gpus, number = _gpus(device), jobs_at_once(device, at_once)
    threads = str(max(1, _processors() // number))
    environments = []
    for slot in range(number):
        own = {**{name: threads for name in THREADS}, **os.environ, "PYTHONUNBUFFERED": "1"}
        if gpus:
            own["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        environments.append(own)
    return environments


def jobs_at_once(device: str | None, at_once: int | None) -> int:
    """How many jobs run at a time: as asked for, else one on each GPU."""
    return at_once or len(_gpus(device)) or 1


def _gpus(device: str | None) -> list[str]:
    """The GPUs to share out, as CUDA_VISIBLE_DEVICES names them; none where the jobs' device is the CPU or one GPU by number."""
    if device not in (None, "cuda"):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return visible or [str(number) for number in range(torch.cuda.device_count())]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
