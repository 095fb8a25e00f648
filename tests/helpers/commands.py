"""The commands that pages show a reader: lines of code blocks that call tips-bench."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shown:
    """A command of a page. words: behind `tips-bench`."""

    page: Path
    line: int
    text: str
    words: tuple[str, ...]


def shown_commands(page: Path) -> list[Shown]:
    """Those of a page, in their order."""
    found, pending, first = [], "", 0
    for number, line in enumerate(code_lines(page.read_text(encoding="utf-8")), start=1):
        if line is None:
            pending = ""
            continue
        first = first if pending else number
        pending += line.strip()
        if pending.endswith("\\"):
            pending = f"{pending[:-1].rstrip()} "
            continue
        found += [Shown(page, first, pending, words) for words in calls(pending)]
        pending = ""
    return found


def code_lines(text: str) -> list[str | None]:
    """For each line of a page what stands there of code; None where it is prose."""
    found: list[str | None] = []
    fenced, before = False, ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            found.append(None)
        elif fenced:
            found.append(line)
        else:  # four more spaces than the text, behind an empty line or other code
            code = line.startswith("    ") and (not before.strip() or (found and found[-1] is not None))
            found.append(line[4:] if code else None)
        before = line
    return found


def calls(text: str) -> list[tuple[str, ...]]:
    """The words of each call of tips-bench in a line of a shell, without comments, redirections and pipes."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        words = list(lexer)
    except ValueError:  # a quote that stands for itself, in prose or YAML
        return []
    found: list[tuple[str, ...]] = []
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set("|&;<>"):
            found += own(command)
            command = []
        else:
            command.append(word)
    return found


def own(command: list[str]) -> list[tuple[str, ...]]:
    """What a command gives tips-bench, where it calls it: by its name, as a module, behind torchrun or settings of the environment."""
    for number, word in enumerate(command[:12]):
        called = number == 0 or "=" in command[number - 1] or command[number - 1] in ("$", "sudo", "srun", "time")
        if (called and word.rpartition("/")[2] == "tips-bench") or (word == "tips_bench" and command[number - 1] == "-m"):
            return [tuple(command[number + 1 :])]
    return []
