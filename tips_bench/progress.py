"""Progress bars with rate and time left; silent when standard error is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the number of units done since the last call."""

    def __call__(self, units: int = 1) -> None: ...


_silent = False


def silence(wanted: bool) -> None:
    """Whether no bar is shown from now on: one process of several shows what all of them do."""
    global _silent
    _silent = wanted


@contextmanager
def bar(title: str, total: int | None, unit: str = "images") -> Iterator[Advance]:
    """A progress bar of `total` units; yields the function that advances it. unit "bytes" is shown as MB."""
    from rich.console import Console
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

    console = Console(stderr=True)
    amount = [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn(), Rate()]
    columns = [TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn()]
    with Progress(*columns, console=console, disable=_silent or not console.is_terminal, transient=True) as progress:
        task = progress.add_task(title, total=total)

        def advance(units: int = 1) -> None:
            progress.advance(task, units)

        yield advance
