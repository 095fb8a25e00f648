"""Processes on this machine as torchrun starts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
Launched = subprocess.Popen[str]


def torchrun(ranks: int, *arguments: object, cwd: Path | None = None, limit_s: float = 400) -> subprocess.CompletedProcess[str]:
    """Ranks over gloo, each with one thread. Ranks that hang say where: each prints its stacks and ends.

    arguments: a script, or -m and a module, and what it is given.
    """
    with start_torchrun(ranks, *arguments, cwd=cwd) as process:
        return finish_torchrun(process, limit_s)


@contextmanager
def start_torchrun(
    ranks: int, *arguments: object, cwd: Path | None = None, options: Sequence[str] = ("--standalone",)
) -> Iterator[Launched]:
    """As `torchrun`, and does not wait; what still runs when the block ends is killed. options: of torchrun itself."""
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node", str(ranks), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as docs/training-runs.md says, for ranks that are started again
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            kill_tree(process)


def kill_tree(process: Launched) -> None:
    """Kills a launcher and all that it started, as a machine that is switched off does."""
    with suppress(psutil.Error):
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.Error):
                one.kill()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something on this machine listens on a port."""
    with socket.socket() as one:
        return one.connect_ex(("localhost", port)) == 0


def finish_torchrun(process: Launched, limit_s: float = 400) -> subprocess.CompletedProcess[str]:
    """Waits for what `start_torchrun` started."""
    try:
        out, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        for rank in psutil.Process(process.pid).children(recursive=True):
            rank.send_signal(signal.SIGABRT)
        out, said = process.communicate(timeout=60)
        pytest.fail(f"the ranks hang: {said[-20000:]}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, said)


def ranks_of(process: Launched) -> list[psutil.Process]:
    """The processes of a launcher's ranks, in their order; their own readers are none of them."""
    found = {}
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):
            found[int(child.environ().get("RANK", "-1"))] = child
    return [found[rank] for rank in sorted(found) if rank >= 0]
