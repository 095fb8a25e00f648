"""Each folder of the package opens with a map of itself: one line for each module, or for a few of one kind."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tips_bench"
ROOMS = sorted(str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.glob("*/**/__init__.py"))
# "name, name  what it is": a line, indented or not, with two spaces or more before the words
LINE = re.compile(r"^(?:    )?([a-z]\w*/?(?:, [a-z]\w*/?)*)  +\S")


def named(docstring: str) -> list[str]:
    return [name for line in docstring.splitlines() if (found := LINE.match(line)) for name in found[1].split(", ")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_names_each_of_its_modules_once(room: str) -> None:
    folder = PACKAGE / room
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"} | {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")), clean=False) or ""
    assert sorted(named(docstring)) == sorted(modules), f"fix the map in tips_bench/{room}/__init__.py"
