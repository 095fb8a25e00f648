"""examples/notebooks: committed without outputs, and what they name exists. tests/nightly/test_notebooks.py executes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import tips_bench
from tests.contract.test_docs import LINK, anchors

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples" / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_its_code_names_what_tips_bench_has(path: Path) -> None:
    code = cells(path, "code")
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    trees = [ast.parse("".join(cell["source"])) for cell in code]  # plain Python: no magics, no shell
    named = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tips_bench"
    }
    assert named and named <= set(tips_bench.__all__)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_of_a_notebook_leads_somewhere(path: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    assert LINK.search(text)
    for target in LINK.findall(text):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve()
        assert file.exists() and (not anchor or anchor in anchors(file)), target
