"""What a command says beside its results: on standard error as much as -q and -v ask for, and all of it in the log file of a run.

warn   what a reader of the result should know; always said, unless quiet
say    what happens now; said unless quiet
note   settings and timings; said only with -v
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from tips_bench.terminal import one_line

QUIET, NORMAL, VERBOSE = -1, 0, 1
logger = logging.getLogger("tips_bench")
_verbosity = NORMAL
_logs: list[RunLog] = []


def set_verbosity(verbosity: int) -> None:
    """QUIET: errors alone. NORMAL: also warnings, what happens and progress bars. VERBOSE: also settings and timings."""
    global _verbosity
    _verbosity = verbosity


def verbosity() -> int:
    return _verbosity


def warn(text: str) -> None:
    """A warning, by way of Python's logging, so that a program that uses tips-bench can send it elsewhere."""
    _keep("warning", text)
    if _verbosity > QUIET:
        logger.warning("tips-bench: %s", text)


def say(text: str) -> None:
    """A line on standard error."""
    _keep("info", text)
    if _verbosity > QUIET:
        print(one_line(text), file=sys.stderr)


def note(text: str) -> None:
    """A line for the log file, and with -v on standard error."""
    _keep("info", text)
    if _verbosity >= VERBOSE:
        print(one_line(text), file=sys.stderr)


def _keep(level: str, text: str) -> None:
    for log in _logs:
        log.add(level, text)


class RunLog:
    """The log of one run: kept in memory until its file is known, then written line by line, behind what an earlier try left there."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._file: TextIO | None = None

    def add(self, level: str, text: str) -> None:
        """One line. A disk that takes none costs no result: the line is lost."""
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {level:7} {one_line(text)}\n"
        if self._file is None:
            self._lines.append(line)
            return
        with suppress(OSError):
            self._file.write(line)
            self._file.flush()

    def open(self, path: Path) -> None:
        """From now on write to `path`. Errors: as for `add`."""
        with suppress(OSError):
            self._file = path.open("a", encoding="utf-8", errors="replace")
            self._file.writelines(self._lines)
            self._file.flush()
        self._lines.clear()

    def move(self, path: Path, to: Path) -> None:
        """Give the file at `path` another place. Errors: none; it then stays where it is."""
        with suppress(OSError):
            os.replace(path, to)

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None


@contextmanager
def run_log() -> Iterator[RunLog]:
    """A log that takes down what is said while the block runs, and the error with which it ends."""
    log = RunLog()
    _logs.append(log)
    try:
        yield log
    except BaseException as error:
        log.add("error", f"{type(error).__name__}: {error}")
        raise
    finally:
        _logs.remove(log)
        log.close()
