"""Do what a page of docs/tutorials says, in its order, and print how long each command took.

    python scripts/follow_page.py docs/tutorials/ten-minutes.md [FOLDER]      FOLDER: an empty one; default: a temporary one

A ```bash block is a command a line; a \\ at its end joins it with the next. A ```python block is a script. A block with title="NAME" is
the file NAME. Other blocks are what commands print, and are left alone, as is a block behind the comment <!-- not run: REASON -->. A
command that does not end with status 0 ends the script, with the same status.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r'(<!-- not run: .+? -->\n+)?^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One thing that a page asks for. kind: bash, python, or file; name: that of the file."""

    kind: str
    text: str
    name: str = ""


def steps(page: str) -> Iterator[Step]:
    """What a page asks for, from its text."""
    for not_run, language, title, text in BLOCK.findall(page):
        if not_run:
            continue
        if title:
            yield Step("file", text, title)
        elif language == "python":
            yield Step("python", text)
        elif language == "bash":
            joined = text.replace("\\\n", " ").splitlines()
            yield from (Step("bash", re.sub(r"\s{2,}", " ", line)) for line in joined if line.strip() and not line.startswith("#"))


def follow(step: Step, folder: Path, environment: dict[str, str]) -> int:
    """Do it in a folder; the exit status. Python and tips-bench are those of this interpreter."""
    if step.kind == "file":
        (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / step.name).write_text(step.text, encoding="utf-8")
        return 0
    own = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = ["bash", "-c", step.text] if step.kind == "bash" else [sys.executable, "-c", step.text]
    return subprocess.run(command, cwd=folder, env={**environment, "PATH": own}, stdin=subprocess.DEVNULL).returncode


def main(page: str, folder: str | None = None) -> int:
    place = Path(folder or tempfile.mkdtemp(prefix="follow-page-"))
    place.mkdir(parents=True, exist_ok=True)
    table = ["wall s  processor s  command"]
    begun, count = time.perf_counter(), 0
    for step in steps(Path(page).read_text(encoding="utf-8")):
        clock, before = time.perf_counter(), os.times()
        status = follow(step, place, dict(os.environ))
        after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        shown = {"file": f"(writes {step.name})", "python": "(a Python script)"}.get(step.kind, step.text)
        table.append(f"{time.perf_counter() - clock:6.1f}  {processor:11.1f}  {shown}")
        count += step.kind == "bash"
        if status:
            print("\n".join([*table, f"ended with status {status}"]))
            return status
    print("\n".join([*table, f"{count} commands in {time.perf_counter() - begun:.0f} s, in {place}"]))
    return 0


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
