"""Shell completion: what it offers, and that it imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tips_bench.cli import complete

ROOT = Path(__file__).resolve().parents[2]
HEAVY = "torch", "numpy", "pandas", "mmengine", "rich"
CODE = f"""
import sys
from tips_bench.cli.main import main
try:
    main()
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def completed(shell: str, line: str) -> tuple[str, str]:
    """(standard output, standard error) of what a shell calls where the cursor is at the end of a line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    environment = os.environ | asked | {"PYTHONPATH": str(ROOT), "_TIPS_BENCH_COMPLETE": f"complete_{shell}"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_names_of_a_list_without_a_heavy_import(shell: str) -> None:
    out, error = completed(shell, "tips-bench run --task ade20k,voc2012")
    assert "ade20k,voc2012-aug" in out and "ade20k,voc2012" in out and "cityscapes" not in out
    assert error.splitlines()[-1] == "heavy: []"


def test_names_follow_the_card_files_the_users_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "voc-mine.yaml").write_text("not even a card")
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    assert "voc-mine" in complete.task("voc") and "ade20k" not in complete.task("voc")
    assert complete.list_of("model")("tips-nano,tips-b1") == ["tips-nano,tips-b14"]
    assert complete.list_of("protocol")("al") == ["all"]
    assert {"convex", "tips-b14", "ade20k"} <= set(complete.card(""))
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path / "absent"))
    assert complete.card("") == []
