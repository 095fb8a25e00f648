"""What a job does: its evaluations, one after another, each to its record.

    python -m tips_bench.executors.work JOB.json    a job of the local executor; it ends when its standard input is closed

A job may be stopped at any time and started again: what has a record is kept, and the rest goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tips_bench import plugins
from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job, spec_of
from tips_bench.executors.matrix import claimed, say_failed


def work(job: Job) -> list[str]:
    """Evaluate and return the paths of the records. An evaluation that fails leaves its sentence in the results folder.

    One that another process has begun is left to it. Errors: a bug, after its sentence was left.
    """
    os.chdir(job["folder"])
    sys.argv = job["command"]  # the records name it
    for module in filter(None, job["plugins"].split(",")):
        plugins.load_plugin(module)
    from tips_bench.evaluation.estimate import shared_passes
    from tips_bench.evaluation.run import RunOptions, evaluate_spec

    out, paths = Path(job["out"]), []
    specs = [spec_of(one) for one in job["evaluations"]]
    options = RunOptions(**job["options"])
    with shared_passes(specs, options, out / ".features" / job["features"]) as sharing:
        for one, spec, shared in zip(job["evaluations"], specs, sharing, strict=True):
            with claimed(out, one["id"]) as mine:
                if not mine:
                    continue
                try:
                    paths.append(str(evaluate_spec(spec, options, shared=shared).file))
                except UserError as error:
                    say_failed(out, one["id"], str(error))
                except Exception as error:
                    say_failed(out, one["id"], f"a bug: {type(error).__name__}: {error}")
                    raise
    with suppress(OSError):
        (out / ".features").rmdir()  # the last job that shared something
    return paths


def _end_with_parent() -> None:
    while os.read(0, 1):  # nothing comes until the process that started this one has ended
        pass
    os._exit(1)


def main(path: str) -> None:
    """The job in a file."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(json.loads(Path(path).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(sys.argv[1])
