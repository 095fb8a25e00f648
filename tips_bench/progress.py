"""Progress with rate and time left: a bar in a terminal, and elsewhere a line from time to time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from tips_bench import journal


class Advance(Protocol):
    """Called with the number of units done since the last call."""

    def __call__(self, units: int = 1) -> None: ...


LINE_S = 30.0  # between two lines where there is no terminal, and at least a tenth of the time so far
_silent = False
_below: Callable[[], str] = str


def silence(wanted: bool) -> None:
    """Whether no progress is shown from now on: one process of several shows what all of them do."""
    global _silent
    _silent = wanted


@contextmanager
def below_bars(text: Callable[[], str]) -> Iterator[None]:
    """While the block runs, this line stands below each bar: of what the bars are a part. An empty one is not shown."""
    global _below
    _below, before = text, _below
    try:
        yield
    finally:
        _below = before


def duration(seconds: float) -> str:
    """As people say it: "40 s", "12 min", "1 h 20 min", "2 d 3 h"."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


@contextmanager
def bar(title: str, total: int | None, unit: str = "images") -> Iterator[Advance]:
    """A progress bar of `total` units; yields the function that advances it. unit "bytes" is shown as MB.

    Where standard error is no terminal, a line says how far it is, at most every LINE_S seconds.
    """
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}/s", style="progress.data.speed")

    class PartProgress(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            if text := _below():
                yield Text(text, no_wrap=True, overflow="ellipsis")

    hidden = _silent or journal.verbosity() == journal.QUIET or not sys.stderr.isatty()
    lines = None if _silent or sys.stderr.isatty() else _Lines(title, total, unit)
    amount = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), Rate()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    began, done = time.perf_counter(), 0
    with PartProgress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task(title, total=total)

        def advance(units: int = 1) -> None:
            nonlocal done
            done += units
            progress.advance(task, units)
            if lines is not None:
                lines.show(done)

        yield advance
    journal.note(f"{title}: {done} {unit} in {time.perf_counter() - began:.1f} s")


class _Lines:
    """Progress for a log file or a notebook, by `journal.say`."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title, self.total = title, total
        self.unit, self.per = ("MB", 1e6) if unit == "bytes" else (unit, 1.0)
        self.began = self.last = time.perf_counter()
        self.taken_up = 0  # units that were done before: they count at once

    def show(self, done: int) -> None:
        """Says how far it is, if the last line is long enough ago."""
        now = time.perf_counter()
        seconds = now - self.began
        if seconds < 1:
            self.taken_up = done
        if now - self.last < max(LINE_S, seconds / 10):
            return
        self.last = now
        rate = (done - self.taken_up) / seconds
        shown = f"{rate / self.per:.3g}" if rate < 1000 * self.per else f"{rate / self.per:,.0f}"
        of = f" of {self.total / self.per:,.0f}" if self.total else ""
        left = f", about {duration((self.total - done) / rate)} left" if self.total and rate else ""
        whole = f"; {_below()}" if _below() else ""
        journal.say(f"{self.title}: {done / self.per:,.0f}{of} {self.unit}, {shown} {self.unit}/s{left}{whole}")
