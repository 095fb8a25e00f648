"""What a process of an executor does: the call of one job.

    python -m tips_bench.executors.work JOB.json    a job of the local executor, or a rank of one that torchrun started

The process ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from tips_bench import heartbeat, journal, plugins, ranks
from tips_bench.errors import UserError
from tips_bench.executors.jobs import Job
from tips_bench.registry import load_target


def do(job: Job) -> Any:
    """Call the function of a job, and return what it returns. Errors: those of the function."""
    prepare(job)
    return load_target(job["function"])(**job["arguments"])


def prepare(job: Job) -> None:
    """Make this process one like that which asked for the job."""
    os.chdir(job["folder"])
    sys.argv = job["command"]  # records name it
    os.environ.update(job["environment"])
    journal.set_verbosity(job["verbosity"])
    plugins.load()


def _as_rank(job: Job) -> None:
    """The job as one of the ranks that torchrun started; ends the process."""
    from tips_bench import progress
    from tips_bench.models.devices import resolve_device

    status = 1
    try:
        world = ranks.enter(resolve_device(job["device"]))
        progress.silence(not world.is_first)
        prepare(job)
        load_target(job["function"])(**job["arguments"], world=world)
        status = 0
    except UserError as error:
        status = 2
        heartbeat.speak(partial(print, f"tips-bench: {error}", file=sys.stderr))
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
    do(job)


if __name__ == "__main__":
    main(sys.argv[1])
