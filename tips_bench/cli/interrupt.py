"""Ctrl-C: status 130 and one sentence from the first moment on. Imports nothing heavy, for it is the first thing to be imported.

Until a verb works, and in the middle of an import, which no library survives whole, the command ends at once; elsewhere Ctrl-C is a
KeyboardInterrupt; afterwards it changes nothing any more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = "tips-bench: interrupted; what was finished is kept"


def catch_early() -> None:
    """End at Ctrl-C from now on, unless a shell has us ignore it, as behind nohup."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def interruptible() -> Iterator[None]:
    """While a verb works."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave(number, frame)
        frame = frame.f_back
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)
