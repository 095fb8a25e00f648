"""Processes that use one cache of features at once: evaluations, and the commands that prune and verify it.

They are forks of this process, which has imported all they need, so that one starts in milliseconds. What a process says goes to a file.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.evaluation import run

TINY = [f"task.data.generator_options.{option}" for option in ("size=56", "train=4", "val=4", "frames_per_scene=2")]
WAYS: dict[str, dict[str, Any]] = {
    "segmentation": {"task": "rooms-seg", "protocol": "convex-224", "overrides": [*TINY, "image.short_side=56"]},
    "depth": {"task": "rooms-depth", "protocol": "convex-depth-224", "overrides": [*TINY, "image.short_side=42"]},
    "names": {"task": "rooms-zeroshot", "protocol": "tips-values-224", "overrides": [*TINY, "image.short_side=56"]},
}
VARYING = {"cost", "created", "command"}


class Users:
    """Starts the processes. folder: where each leaves what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._started = folder, list[ForkProcess]()
        self._context = multiprocessing.get_context("fork")

    def start(self, function: Callable[..., None], *arguments: Any) -> ForkProcess:
        """A process that calls a function of this module."""
        said = self.folder / f"{len(self._started)}-{function.__name__}.log"
        process = self._context.Process(target=_said_to, args=(said, function, arguments), name=str(said))
        process.start()
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill those that still run."""
        for process in self._started:
            process.kill()
            process.join()


def said(process: ForkProcess) -> str:
    """What a process said until now."""
    return Path(process.name).read_text()


def evaluate(way: str, out: Path, limit: str | None) -> None:
    """One evaluation in `WAYS`, with the cache."""
    torch.set_num_threads(1)
    common = {"device": "cpu", "batch_size": 1, "workers": 0, "cache": True, "cache_limit": limit, "rerun": True}
    run.evaluate(**WAYS[way], **common, model="tips-nano", out=out)


def prune_and_verify(stop: Path, seed: int, most_gb: float) -> None:
    """Prune the cache to sizes between nothing and `most_gb`, verify and list it, until there is a file `stop`.

    Errors: a command that does not end with 0; `verify` does so only if every array is what was written.
    """
    draw, rounds = random.Random(seed), 0
    while not stop.exists():
        size = draw.choice([0, draw.uniform(0, most_gb), most_gb])
        for arguments in (["verify"], ["prune", "--max-gb", f"{size:.9f}"], ["verify"], ["list"]):
            done = CliRunner().invoke(app, ["cache", *arguments])
            if done.exit_code:
                raise AssertionError(f"{arguments}: {done.output} {done.exception}")
        rounds += 1
        time.sleep(draw.uniform(0, 1))
    print(f"{rounds} rounds")


def result(out: Path) -> tuple[dict[str, Any], bytes]:
    """The one record in a folder, less what may differ, and the bytes of its counts."""
    (path,) = (path for path in out.glob("*/*/*.json") if not path.name.startswith("."))
    record = json.loads(path.read_text())
    return {key: value for key, value in record.items() if key not in VARYING}, path.with_name(record["per_sample"]).read_bytes()


def forwards(out: Path) -> int:
    """How many images went through the backbone for the one record in a folder."""
    (path,) = (path for path in out.glob("*/*/*.json") if not path.name.startswith("."))
    return json.loads(path.read_text())["cost"]["image_forwards"]


def _said_to(file: Path, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with file.open("w", buffering=1) as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            function(*arguments)
        except BaseException:
            traceback.print_exc(file=stream)
            sys.exit(1)
