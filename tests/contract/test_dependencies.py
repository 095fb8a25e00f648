"""What pyproject.toml declares: every required package is imported, and none is declared in vain."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path

import pytest

from tips_bench.openmmlab import NEEDED

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# package -> what is imported of it, where that has another name
MODULES = {
    **{"mmsegmentation": "mmseg", "mmcv-lite": "mmcv", "scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml"},
    **{"open_clip_torch": "open_clip", "faiss-cpu": "faiss", "protobuf": "google"},
}
BY_NAME = {"import_module", "require_package"}  # functions that import what they are told in text


@functools.cache
def imported() -> set[str]:
    """Top-level modules that the package imports, anywhere in it."""
    found = set(NEEDED)  # mmsegmentation's own, which it does not declare: openmmlab.py looks for them
    for path in (ROOT / "tips_bench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BY_NAME:
                found |= {str(text.value).split(".")[0] for text in node.args if isinstance(text, ast.Constant)}
    return found


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *EXTRAS["encoders"], *EXTRAS["faiss"]])
def test_every_declared_package_is_imported(line: str) -> None:
    name = re.split(r"[<>=\[ ]", line)[0]
    assert MODULES.get(name, name) in imported()
