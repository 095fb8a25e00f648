"""A run that is killed twice and goes on with other ranks, beside runs that are never interrupted: the loss of each.

    python benchmarks/restarts.py --shards 'rooms/train-*.tar' --out FOLDER [--steps 150] [--batch 12]

A smaller tips-nano with all its losses from the first step on, in fp32 under FSDP, every rank with one thread. `kill -9` of all processes
stops a run after each third of its steps; --resume starts it again with one, then two, then three ranks, or each time with one. Runs with
two and with three ranks that are never stopped say how far rounding alone goes. A run that is there already is not made again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tips_bench.training import checkpoint
from tips_bench.training.log import read_log

ROOT = Path(__file__).resolve().parent.parent
RUNS = {"1 rank": (1,), "2 ranks": (2,), "3 ranks": (3,), "killed, 1 1 1 ranks": (1, 1, 1), "killed, 1 2 3 ranks": (1, 2, 3)}
"""Ranks of each attempt; all but the last are killed."""
SMALLER = {
    "data.workers": "0",
    "data.shuffle": "512",
    "method.teacher.start": "0",
    "method.self_distillation.head.prototypes": "256",
    "method.patches.head.prototypes": "256",
    "model.vision.depth": "2",
    "running.precision": "fp32",
    "running.parallel": "fsdp",
    "running.log_every": "1",
    "running.keep": "99",
}


def command(ranks: int, options: argparse.Namespace, out: Path) -> list[str]:
    """Of one attempt of a run."""
    stages = f"[{{name: only, steps: {options.steps}, batch: {options.batch}, global_px: 56, local_px: 28, learning_rate: 5.0e-4,"
    stages += " final_learning_rate: 1.0e-6, warmup: 20}]"
    values = {**SMALLER, "data.shards": options.shards, "stages": stages, "running.checkpoint_every": str(options.steps // 6)}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    train = ["-m", "tips_bench", "train", "tips-nano", "--device", "cpu", "--out", str(out), "--resume"]
    return [sys.executable, *launch, *train, *(f"--set={key}={value}" for key, value in values.items())]


def attempt(ranks: int, options: argparse.Namespace, out: Path, kill_at: int | None) -> None:
    """Train on, to the end or until the checkpoint of a step is there."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with subprocess.Popen(command(ranks, options, out), env=environment) as process:
        while kill_at is not None and process.poll() is None:
            newest = checkpoint.newest(out)
            if newest is not None and (checkpoint.step_of(newest) or 0) >= kill_at:
                kill(process)
            time.sleep(0.05)
    if kill_at is None and process.returncode:
        raise SystemExit(f"{out} ended with status {process.returncode}.")


def kill(process: subprocess.Popen[bytes]) -> None:
    """A launcher and its ranks, as a machine that is switched off does."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with suppress(psutil.Error):
            one.kill()


def losses(run: Path) -> dict[int, float]:
    """Step -> loss."""
    return {line["step"]: line["loss"] for line in read_log(run) if line.get("loss") is not None}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=12)
    options = parser.parse_args()
    found = {}
    for name, attempts in RUNS.items():
        out = options.out / name.replace(", ", "-").replace(" ", "-")
        for index, ranks in enumerate(attempts):
            last = index == len(attempts) - 1
            if options.steps not in (losses(out) if out.is_dir() else {}):
                attempt(ranks, options, out, None if last else (index + 1) * options.steps // 3)
        found[name] = losses(out)
    first, *others = found
    print(f"| step | {first} | {' | '.join(f'{name}: difference' for name in others)} |\n|{' --- |' * (len(found) + 1)}")
    shown = [1, *(options.steps * part // 6 for part in range(1, 7))]
    for step in shown:
        differences = " | ".join(f"{found[name][step] - found[first][step]:+.1e}" for name in others)
        print(f"| {step} | {found[first][step]:.6f} | {differences} |")
    largest = (max(abs(found[name][step] - loss) for step, loss in found[first].items()) for name in others)
    print(f"| largest of all {options.steps} | | {' | '.join(f'{one:.1e}' for one in largest)} |")


if __name__ == "__main__":
    main()
