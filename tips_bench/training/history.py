"""What happened to a run, in the order in which it happened: who trained it, what was changed or passed over, and how it ended.

RUN/history.jsonl: one JSON object a line. Unlike the log, it is never cut when a run goes on from an earlier checkpoint.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tips_bench.files import cannot_write
from tips_bench.training.log import whole_lines
from tips_bench.wording import counted

HISTORY_FILE = "history.jsonl"


class History:
    """Adds to the history of a run. On ranks but the first it is silent: run = None."""

    def __init__(self, run: Path | None) -> None:
        self.path = None if run is None else run / HISTORY_FILE

    def add(self, step: int, event: str, **details: Any) -> None:
        """Writes that something happened after so many steps."""
        if self.path is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, "event": event, **details}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error


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
