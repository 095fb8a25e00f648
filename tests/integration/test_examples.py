"""examples/: each does what its README says, and the workflow asks the action for nothing that it does not take."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def copied(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / name, folder / name))


def call(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example with its images drawn."""
    monkeypatch.delenv("TIPS_BENCH_DATA")
    folder = copied("own_data", tmp_path)
    call(folder, "draw_shapes.py")
    return folder


def test_own_data_is_checked_and_own_code_finds_its_shapes(own_data: Path) -> None:
    assert call(own_data, "-m", "tips_bench", "data", "check", "my-shapes").count("no fault found") == 2
    shutil.copy(EXAMPLES / "own_encoder" / "my_encoder.py", own_data)
    said = call(own_data, "-m", "tips_bench", "run", "--task", "my-shapes", "--model", "my_encoder:MyEncoder")
    score = re.search(r"convex-224 +([0-9.]+)", said)
    assert score and float(score[1]) > 85  # one class alone would give a third of its share


def test_the_commands_that_a_readme_shows_are_those_that_are_tested() -> None:
    assert "run --task rooms-seg --model my_encoder:MyEncoder\n" in (EXAMPLES / "own_encoder" / "README.md").read_text(encoding="utf-8")
    shown = (EXAMPLES / "own_data" / "README.md").read_text(encoding="utf-8")
    assert "python draw_shapes.py\n" in shown and "data check my-shapes\n" in shown and "run --task my-shapes" in shown


def test_the_workflow_is_that_of_the_page_and_gives_the_action_what_it_takes() -> None:
    text = (EXAMPLES / "workflow" / "scores.yml").read_text(encoding="utf-8")
    assert f"```yaml\n{text}```" in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    inputs = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    (step,) = [step for step in yaml.safe_load(text)["jobs"]["check"]["steps"] if "tips-bench" in step.get("uses", "")]
    assert set(step["with"]) <= set(inputs)


def test_the_projects_own_workflows_and_forms_are_whole() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(command.endswith(" lint") for command in commands) and any(command.endswith(" test") for command in commands)
    for job in workflow["jobs"].values():
        assert all(re.search(r"@v\d+$", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_citation_names_the_version_of_the_package() -> None:
    from tips_bench import __version__

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__
