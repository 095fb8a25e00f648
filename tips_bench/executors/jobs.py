"""A job: a function by name with plain arguments, which every executor can hand to a process elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench import journal
from tips_bench.errors import UserError

Job = dict[str, Any]
"""function: "package.module:name". arguments: of its call, plain data. device: the one that the call uses; None = any GPU that is free.
folder: the working directory. command: the command line. environment: variables of tips-bench, which not every executor hands on.
verbosity: of `tips_bench.journal`."""
OURS = "TIPS_BENCH_"


@dataclass(frozen=True)
class Settings:
    """How an executor does jobs; of no jobs it checks these settings, and does nothing else. logs: folder for what jobs say.

    values: those of --slurm or --ray. at_once: local jobs at a time.
    ended: called with each job that has ended, and "" or why its process did not end well. alone: a job is done by one process, never by
    several ranks. queued: called with each job that a queue does later, its number there, and where its log will be; None = the executor
    waits for such jobs.
    """

    logs: Path
    ended: Callable[[Job, str], None]
    values: dict[str, Any] = field(default_factory=dict)
    at_once: int | None = None
    alone: bool = False
    queued: Callable[[Job, str, Path], None] | None = None


def new_job(function: str, arguments: dict[str, Any], device: str | None = None) -> Job:
    """A job for a process like this one."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
    here = {"folder": os.getcwd(), "command": sys.argv, "environment": environment, "verbosity": journal.verbosity()}
    return {**here, "function": function, "arguments": arguments, "device": device}


def ranks_of(values: dict[str, Any], gpus: str, where: str, *, alone: bool = False) -> int:
    """Takes "ranks" out of an executor's settings: by how many processes a job is done; by default one for each GPU, or one if alone.

    gpus: the setting that says how many GPUs a job gets. Errors: no whole number from 1; several ranks for a job that is done alone.
    """
    ranks = values.pop("ranks", None)
    if ranks is None:
        return 1 if alone else max(1, _number_of_gpus(values, gpus))
    if not is_whole(ranks, 1):
        raise UserError(f"ranks={ranks} is not a whole number from 1", where=where, fix="Write, for example, ranks=8.")
    if alone and ranks > 1:
        raise UserError(f"ranks={ranks}, but these jobs have one process each", where=where, fix="Leave ranks out.")
    return int(ranks)


def is_whole(value: Any, least: int) -> bool:
    """Whether the value of a setting is a whole number from `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number_of_gpus(values: dict[str, Any], gpus: str) -> int:
    """As the setting says it, or as Slurm's other names for it do: 8, "8", "a100:8", gres="gpu:a100:8,shard:1"."""
    said = [str(values[name]) for name in (gpus, "gpus_per_task") if name in values]
    said += [part for part in str(values.get("gres", "")).split(",") if part.split(":")[0] == "gpu"]
    numbers = [re.search(r"[0-9]+$", part.split("(")[0]) for part in said]
    return max((int(number[0]) if number else 1 for number in numbers), default=1)
