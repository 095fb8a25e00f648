"""A command with a limit in time, which ends with the process that started it.

    python -m tips_bench.executors.watched SECONDS COMMAND...

It is ended, with the processes of its group, when the time is over, and when standard input is closed: the latest is when the process that
holds the other end has ended, however that ends. The status is that of the command, TIMED_OUT where its time was over.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

TIMED_OUT = 124
"""The status that timeout(1) gives."""
LOOK_AGAIN_S = 0.2
PATIENCE_S = 10.0
"""From asking the command to end until it is killed; srun takes its job back in that time."""


def main(seconds: float, command: list[str]) -> int:
    """The status of the command."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        print(f"tips-bench: cannot be started: {error}", file=sys.stderr)
        return 2
    until = time.monotonic() + seconds
    while process.poll() is None:
        if _is_closed(LOOK_AGAIN_S):
            return _end(process)
        if time.monotonic() > until:
            _end(process)
            return TIMED_OUT
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _is_closed(seconds: float) -> bool:
    """Whether standard input is, or becomes so in that time. Nothing is ever written to it."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1)


def _end(process: subprocess.Popen[bytes]) -> int:
    os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
