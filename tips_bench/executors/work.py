"""What a job does: its evaluations, one after another, each to its record.

    python -m tips_bench.executors.work JOB.json    a job of the local executor, or a rank of one that torchrun started

The process ends when its standard input is closed. A job may be stopped at any time and started again: what has a record is kept, and
the rest goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from tips_bench import plugins, ranks
from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, spec_of
from tips_bench.executors.matrix import claimed, folder_of, say_failed
from tips_bench.ranks import ALONE, World


def work(job: Job, world: World = ALONE) -> list[str]:
    """Evaluate and return the paths of the records. An evaluation that fails leaves its sentence in the results folder.

    One that another process has begun is left to it. world: this process as one of several that do the job together.
    Errors: a bug, after its sentence was left; of several ranks, one that fails ends with its error.
    """
    prepare(job)
    from tips_bench.evaluation.estimate import shared_passes
    from tips_bench.evaluation.run import RunOptions, evaluate_spec

    out, paths = Path(job["out"]), []
    specs = [spec_of(one) for one in job["evaluations"]]
    options = RunOptions(**job["options"], world=world)
    with shared_passes(specs, options, out / ".features" / job["features"]) as sharing:
        for one, spec, shared in zip(job["evaluations"], specs, sharing, strict=True):
            if one["id"] in job.get("left_out", ()):
                continue
            with _claimed_together(out, one["id"], world) as ours:
                if not ours:
                    continue
                try:
                    paths.append(str(evaluate_spec(spec, options, shared=shared).file))
                except UserError as error:
                    say_failed(out, one["id"], str(error))
                    if world.size > 1:
                        raise
                except Exception as error:
                    if world.size == 1 or not (folder_of(out) / f"{one['id']}.failed").is_file():  # else: another rank failed first
                        say_failed(out, one["id"], f"a bug: {type(error).__name__}: {error}")
                    raise
    with suppress(OSError):
        (out / ".features").rmdir()  # the last job that shared something
    return paths


def prepare(job: Job) -> None:
    """Make this process one like that which asked for the job."""
    os.chdir(job["folder"])
    sys.argv = job["command"]  # the records name it
    for module in filter(None, job["plugins"].split(",")):
        plugins.load_plugin(module)


@contextmanager
def _claimed_together(out: Path, own: str, world: World) -> Iterator[bool]:
    """As `claimed`, by the first rank for all."""
    with claimed(out, own) if world.is_first else nullcontext(False) as mine:
        yield world.gather(mine)[0]


def _as_rank(job: Job) -> None:
    """The job as one of the ranks that torchrun started; ends the process."""
    from tips_bench import progress
    from tips_bench.models.devices import resolve_device

    status = 1
    try:
        world = ranks.enter(resolve_device(job["options"]["device"]))
        progress.silence(not world.is_first)
        work(job, world)
        status = 0
    except Exception:
        traceback.print_exc()
        raise
    finally:
        ranks.end(status)  # at once, for the others may wait in a collective


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing comes until the process that started this one has ended
        pass
    os._exit(1)


def main(path: str) -> None:
    """The job in a file."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    if ranks.is_launched():
        _as_rank(job)
    work(job)


if __name__ == "__main__":
    main(sys.argv[1])
