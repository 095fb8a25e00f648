"""SIGTERM and Ctrl-C, which end a run once it has saved. SIGTERM: for good, or only on the machines that got it, while torchrun goes on
with the others. Ctrl-C: for good, and a second one at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tips_bench.errors import UserError

AGAIN_S = 1.0
"""A Ctrl-C that comes so many seconds after the first one is another one."""
SPREAD_S = 10.0
"""The signals that end a whole run reach all its ranks within so many seconds after the checkpoint."""


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """An event that a SIGTERM sets, in place of ending the process."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told  # signals come to the main thread alone
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def first_interrupt(told: threading.Event) -> Iterator[threading.Event]:
    """While steps are made, a Ctrl-C sets `told` in place of ending the process; yields an event that it sets, too.

    One that comes more than AGAIN_S later does what it did before: torchrun sends its ranks the one that they have got already.
    """
    pressed, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return
    since = time.monotonic()

    def save_first(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if pressed.is_set() and time.monotonic() - since > AGAIN_S:
            before(number, frame)
        elif not pressed.is_set():
            since = time.monotonic()
            pressed.set()
            told.set()
            os.write(2, b"tips-bench: this step is finished and saved first; Ctrl-C again ends at once\n")

    signal.signal(signal.SIGINT, save_first)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def raise_if_not_told(told: threading.Event) -> None:
    """Ends a rank of a run that has saved because of a SIGTERM: as it should where the rank got it, too, within SPREAD_S.

    Errors: it did not, and torchrun may start it again. A process that fails is what has torchrun do so, with the machines that stay; if
    it ended as it should, torchrun would take the whole run for finished. Each rank decides this by itself and waits for no other: those
    that got the signal have little time left.
    """
    until = time.monotonic() + SPREAD_S
    while _may_start_again() and not told.is_set():
        if time.monotonic() > until:
            problem = "other ranks of this run were stopped by SIGTERM, and a checkpoint was written"
            raise UserError(problem, where="torchrun", fix="There is nothing to do: it starts this rank again.")
        time.sleep(0.1)  # not told.wait, whose lock the handler of the signal takes


def _may_start_again() -> bool:
    """Whether torchrun on this machine starts a process again that fails."""
    used, allowed = (os.environ.get(f"TORCHELASTIC_{name}", "0") for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    return int(used) < int(allowed)
