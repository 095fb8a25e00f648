"""Evaluations by several ranks of one machine: torchrun inside the job, so that one long evaluation uses all GPUs of a node.

A rank that fails leaves its sentence and ends, torchrun ends the others, and new ranks go on with the rest of the job.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tips_bench.executors import matrix
from tips_bench.executors.jobs import Job
from tips_bench.executors.work import do, prepare
from tips_bench.files import write_text

PATIENCE_S = 20.0  # for torchrun to end the ranks


def do_together(job: Job, ranks: int) -> Any:
    """As `do`, by so many processes of this machine where there are several. Errors: RuntimeError if ranks died and left no sentence."""
    if ranks == 1:
        return do(job)
    from tips_bench.executors.evaluations import asked_for, spec_of  # loads torch, which other jobs may not need

    prepare(job)
    given = job["arguments"]
    out = Path(given["out"])
    asked = [asked_for(spec_of(one), given["options"]) for one in given["evaluations"]]
    matrix.forget_failures(out, [one.id for one in asked])
    logs, failed = matrix.folder_of(out) / "logs", set[str]()
    file = logs / f"ranks-{socket.gethostname()}-{os.getpid()}.json"
    try:
        while True:
            write_text(file, json.dumps({**job, "arguments": {**given, "left_out": sorted(failed)}}))
            status = _run(file, ranks)
            state = matrix.status(out, asked)
            if status == 0 or all(one.state != "left" for one in state):
                return [str(one.path) for one in state if one.path is not None]
            now = {one.asked.id for one in state if one.state == "failed"}
            if now == failed:
                raise RuntimeError(f"the {ranks} ranks of a job ended with status {status}: see its log in {logs}")
            failed = now
    finally:
        file.unlink(missing_ok=True)


def _run(file: Path, ranks: int) -> int:
    """The status of torchrun. The ranks end when their standard input is closed, so at the latest with this process."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m", "tips_bench.executors.work", str(file)]
    # Slurm sends the signal of a preemption to all processes of a job. This one has a handler; others would die of it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    try:
        process = subprocess.Popen([sys.executable, *launch], stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin is not None
    try:
        return process.wait()
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
