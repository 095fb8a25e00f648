"""Help pages: every command has one, with examples that can be copied from a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tips_bench.cli.app import app


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group below `command`, itself included."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = list(commands(typer.main.get_command(app)))


def lines_of_help(words: tuple[str, ...], option: str, columns: int = 80) -> list[str]:
    done = CliRunner().invoke(app, [*words, option], env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return [line.strip() for line in done.output.splitlines()]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_line_of_an_example_or_a_paragraph_is_broken_at_80_columns(words: tuple[str, ...]) -> None:
    wide, narrow = lines_of_help(words, "--help", 200), lines_of_help(words, "--help")
    start = next(number for number, line in enumerate(wide) if line.startswith("Example"))
    end = next(number for number, line in enumerate(wide) if line.startswith("╭"))
    assert any(line.startswith(" ".join(("tips-bench", *words))) for line in wide[start + 1 : end]), wide
    assert [line for line in wide[start:end] if line not in narrow] == []
    paragraph = next((number for number, line in enumerate(wide[3:], 3) if line == ""), start)  # the first may wrap: it is one line
    assert [line for line in wide[paragraph:end] if line not in narrow] == []


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_short_option_prints_the_same_page(words: tuple[str, ...]) -> None:
    assert lines_of_help(words, "-h") == lines_of_help(words, "--help")


def test_an_example_that_takes_two_lines_can_be_pasted_into_a_shell() -> None:
    lines = lines_of_help(("run",), "-h")
    first = next(number for number, line in enumerate(lines) if line.endswith("\\"))
    assert lines[first].startswith("tips-bench run") and lines[first + 1].startswith("--")
