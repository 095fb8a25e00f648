"""Progress bars with rate and time left; silent when standard error is not a terminal."""

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


_silent = False
_below: Callable[[], str] = str


def silence(wanted: bool) -> None:
    """Whether no bar is shown from now on: one process of several shows what all of them do."""
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
    """A progress bar of `total` units; yields the function that advances it. unit "bytes" is shown as MB."""
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
    amount = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), Rate()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    began, done = time.perf_counter(), 0
    with PartProgress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as progress:
        task = progress.add_task(title, total=total)

        def advance(units: int = 1) -> None:
            nonlocal done
            done += units
            progress.advance(task, units)

        yield advance
    journal.note(f"{title}: {done} {unit} in {time.perf_counter() - began:.1f} s")
