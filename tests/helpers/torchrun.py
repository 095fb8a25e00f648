"""Processes on this machine as torchrun starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def torchrun(ranks: int, *arguments: object, cwd: Path | None = None, limit_s: float = 200) -> subprocess.CompletedProcess[str]:
    """Ranks over gloo, each with one thread. Ranks that hang say where: each prints its stacks and ends.

    arguments: a script, or -m and a module, and what it is given.
    """
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*launch, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=cwd, env=environment, **pipes) as process:
        try:
            out, said = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            for rank in psutil.Process(process.pid).children(recursive=True):
                rank.send_signal(signal.SIGABRT)
            out, said = process.communicate(timeout=60)
            pytest.fail(f"the ranks hang: {said[-20000:]}")
    return subprocess.CompletedProcess(command, process.returncode, out, said)
