"""What happened to a run, in the order in which it happened: who trained it, what was changed or passed over, and how it ended.

RUN/history.jsonl: one JSON object a line. Unlike the log, it is never cut when a run goes on from an earlier checkpoint.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tips_bench.files import cannot_write
from tips_bench.training.log import whole_lines
from tips_bench.wording import counted

HISTORY_FILE = "history.jsonl"
START, STOPPED = "start", "stopped"
"""Events: ranks begin to train; they end with an error."""


class History:
    """What one attempt to train adds to the history of its run. step: how many are done, which its user keeps up to date."""

    def __init__(self, run: Path, rank: int = 0) -> None:
        self.path, self.rank, self.step = run / HISTORY_FILE, rank, 0
        self._begun = self.path.stat().st_size if self.path.is_file() else 0

    def add(self, event: str, **details: Any) -> None:
        """Writes that something happened; on the first rank alone. Errors: a disk that takes no more."""
        if self.rank:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._line(event, **details))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def stopped(self, why: str, **details: Any) -> None:
        """Writes why this attempt ended: on any rank and from any thread, but only what is said first. A fault of the disk is no error."""
        with suppress(OSError), self.path.open("a+", encoding="utf-8") as file:
            with suppress(OSError):  # a disk without locks: two ranks may say why
                fcntl.lockf(file, fcntl.LOCK_EX)
            file.seek(self._begun)
            if f'"event": "{STOPPED}"' not in file.read():
                file.write(self._line(STOPPED, rank=self.rank, why=why, **details))

    def _line(self, event: str, **details: Any) -> str:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "step": self.step, "event": event, **details}
        return json.dumps(line) + "\n"


def read_history(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's history, none where it has none; one that a kill cut short is left out."""
    path = run / HISTORY_FILE
    return [json.loads(line) for line in whole_lines(path)] if path.is_file() else []


def history_page(title: str, name: str, step: int, lines: list[dict[str, Any]]) -> str:
    """The card of an exported model, in Markdown: of which recipe, after how many steps, and what happened until then."""
    rows = [f"| {line['step']:,} | {line['time']} | {_said(line)} |" for line in lines if line["step"] <= step]
    head = ["| after step | time (UTC) | what |", "| --- | --- | --- |"] if rows else []
    said = f"{title}. Trained for {counted(step, 'step')} with tips-bench, by the recipe `{name}`."
    return "\n".join([f"# {name}", "", said, "", *head, *rows, ""])


def _said(line: dict[str, Any]) -> str:
    details = {key: value for key, value in line.items() if key not in ("step", "time", "event")}
    if line["event"] == "changed":
        return "changed: " + ", ".join(f"`{key}` from {_plain(old)} to {_plain(new)}" for key, (old, new) in details["values"].items())
    listed = ", ".join(f"{key} {_plain(value)}" for key, value in details.items())
    return line["event"] + (f": {listed}" if listed else "")


def _plain(value: Any) -> str:
    """A value in one cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "/").split())[:300]
