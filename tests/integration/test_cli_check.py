"""tips-bench check: its exit status and the files it writes; and the action and its documentation that call it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from tests.helpers.scored_records import pair, save_record
from tips_bench.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _outside_a_github_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *(str(argument) for argument in arguments)])


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    counts_N23C = pair(np.random.default_rng(0), 60, 5, drop=0.3)
    for name, model in (("baseline", 0), ("same", 0), ("worse", 1)):
        save_record(tmp_path / name / "record.json", counts_N23C[:, model])
    return tmp_path


def test_a_regression_is_exit_status_1_and_a_pass_0(folders: Path) -> None:
    worse, same = run(folders / "worse", "--against", folders / "baseline"), run(folders / "same", "--against", folders / "baseline")
    assert worse.exit_code == 1 and "regression" in worse.stdout and "FAILED: 1 regression" in worse.stdout
    assert same.exit_code == 0 and "passed: 1 within tolerance" in same.stdout
    assert run(folders / "worse", "--against", folders / "baseline", "--tolerance", "90").exit_code == 0
    assert "::" not in worse.stdout


def test_a_missing_cell_is_exit_status_1(folders: Path) -> None:
    save_record(folders / "baseline" / "other.json", pair(np.random.default_rng(0), 9, 3)[:, 0], task="voc2012")
    done = run(folders / "same", "--against", folders / "baseline")
    assert done.exit_code == 1 and "voc2012, convex is missing in" in " ".join(done.stdout.split())


def test_what_the_user_can_mend_is_exit_status_2(folders: Path) -> None:
    for arguments in ((folders / "absent", "--against", folders / "baseline"), (folders / "same", "--against", folders)):
        done = run(*arguments)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1


def test_the_files_for_machines(folders: Path) -> None:
    report, xml, table = (folders / "out" / f"check.{suffix}" for suffix in ("json", "xml", "md"))
    files = ("--report", report, "--junit", xml, "--markdown", table)
    done = run(folders / "worse", "--against", folders / "baseline", *files, "--github")
    assert done.exit_code == 1
    assert json.loads(report.read_text())["cells"][0]["status"] == "regression"
    assert "regression | rooms-seg, convex |" in table.read_text()
    assert ET.parse(xml).find("testsuite/testcase/failure") is not None
    assert re.search(r"^::error title=tips-bench%3A regression::rooms-seg, convex: mIoU .* %25; gain -", done.stdout, re.MULTILINE)


def test_what_cannot_be_told_or_is_new_fails_where_it_is_asked_for(folders: Path) -> None:
    few = pair(np.random.default_rng(3), 6, 5)
    for name, model in (("few", 0), ("few-again", 1)):
        save_record(folders / name / "record.json", few[:, model])
    arguments = (folders / "few-again", "--against", folders / "few")
    assert run(*arguments).exit_code == 0 and run(*arguments, "--fail-on", "new").exit_code == 0
    xml = folders / "check.xml"
    done = run(*arguments, "--fail-on", "cannot-tell,new", "--junit", xml, "--github", "--json")
    assert done.exit_code == 1 and "::error title=tips-bench%3A cannot tell" in done.stdout
    suite = ET.parse(xml).find("testsuite")
    assert suite is not None and suite.get("failures") == "1" and suite.find("testcase/failure") is not None
    assert float(suite.get("time", 0)) == 1.0, "as long as its evaluation"
    wrong = run(*arguments, "--fail-on", "cannot tel")
    assert wrong.exit_code == 2 and "cannot-tell" in wrong.stderr


def test_the_report_is_printed_as_json(folders: Path) -> None:
    report = json.loads(run(folders / "worse", "--against", folders / "baseline", "--json").stdout)
    assert report["passed"] is False and report["cells"][0]["status"] == "regression"


def test_a_github_job_gets_the_table_in_its_summary_after_what_is_there(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = folders / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert run(folders / "same", "--against", folders / "baseline").exit_code == 0
    assert (
        summary.read_text().startswith("before\n### tips-bench check\n") and "within tolerance | rooms-seg, convex |" in summary.read_text()
    )
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(folders))
    done = run(folders / "same", "--against", folders / "baseline")
    assert done.exit_code == 2 and "cannot write" in done.stderr


def action() -> dict:
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


def test_the_action_calls_commands_and_options_that_exist() -> None:
    group = typer.main.get_command(app)
    script = "\n".join(step["run"] for step in action()["runs"]["steps"] if "run" in step)
    calls = re.findall(r"^\s*(?:if )?tips-bench (\w+)((?:.*\\\n)*.*)$", script, re.MULTILINE)
    assert {verb for verb, _ in calls} == {"run", "check", "table"}
    known = {verb: {option for parameter in group.commands[verb].params for option in parameter.opts} for verb, _ in calls}
    for verb, rest in calls:
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) <= known[verb], verb
    added = {step["name"]: set(re.findall(r'options\+=\("(--[a-z-]+)=', step["run"])) for step in action()["runs"]["steps"]}
    assert added["Score"] == {"--weights", "--protocol", "--data-root"} <= known["run"]
    assert added["Check"] == {"--tolerance"} <= known["check"]


def test_the_action_gives_inputs_to_the_shell_as_variables_only() -> None:
    """An expression inside a script would let a branch name or an input run as code."""
    described = action()
    for step in described["runs"]["steps"]:
        assert "${{" not in step.get("run", "") and ("shell" in step) == ("run" in step)
    named = set(re.findall(r"inputs\.([a-z-]+)", json.dumps(described["runs"]) + json.dumps(described.get("outputs", {}))))
    assert named == set(described["inputs"])


def test_the_action_imports_nothing_from_the_checkout() -> None:
    """A file signal.py or a folder pip/ of a pull request would run there."""
    for step in action()["runs"]["steps"]:
        run = step.get("run", "")
        assert "python -I -m pip" in run or "python" not in run
        if step["name"] in ("Score", "Check"):
            assert step["env"]["PYTHONSAFEPATH"] == "1"


def stub(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def step(name: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the action as the runner does, with the commands of folder/bin first."""
    (script,) = [step["run"] for step in action()["runs"]["steps"] if step["name"] == name]
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
        **variables,
    }
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def test_the_steps_of_the_action_check_and_comment(folders: Path) -> None:
    stub(folders / "bin", "tips-bench", f'exec "{sys.executable}" -m tips_bench "$@"')
    stub(folders / "bin", "gh", f'for last; do :; done; case "$*" in *--jq*) echo 77;; *) echo "$@" >> "{folders}/gh";; esac')
    checked = step("Check", folders, RESULTS=str(folders / "worse"), BASELINE=str(folders / "baseline"), TOLERANCE="0.2")
    assert checked.returncode == 1 and "::error title=tips-bench" in checked.stdout, checked.stderr
    outputs = dict(line.split("=", 1) for line in (folders / "output").read_text().splitlines())
    assert json.loads(Path(outputs["report"]).read_text())["passed"] is False and ET.parse(outputs["junit"])
    assert "| model |" in (folders / "summary.md").read_text() and "### tips-bench check" in (folders / "summary.md").read_text()
    commented = step("Comment", folders, REPOSITORY="o/r", NUMBER="5", MARKER="<!-- tips-bench x -->", GH_TOKEN="")
    assert commented.returncode == 0, commented.stderr
    body = folders / "tips-bench" / "comment.md"
    assert (folders / "gh").read_text() == f"api --method PATCH repos/o/r/issues/comments/77 --field body=@{body} --silent\n"
    assert body.read_text().startswith("<!-- tips-bench x -->\n### tips-bench check\n") and "| model |" in body.read_text()


def test_the_action_scores_with_what_it_was_given_whatever_that_holds(folders: Path) -> None:
    stub(folders / "bin", "tips-bench", f'printf "%s\\n" "$@" > "{folders}/arguments"')
    given = {"MODEL": "a; touch x", "TASK": "$(touch y)", "PROTOCOL": "convex", "RESULTS": "-r", "WEIGHTS": "w w.npz", "DATA_ROOT": "d e"}
    done = step("Score", folders, **given)
    assert done.returncode == 0, done.stderr
    assert (folders / "arguments").read_text().splitlines() == [
        "run", "--task=$(touch y)", "--model=a; touch x", "--out=-r", "--weights=w w.npz", "--protocol=convex", "--data-root=d e"
    ]  # fmt: skip


def test_the_action_leaves_out_what_it_was_not_given(folders: Path) -> None:
    """The commands' own defaults hold, as they do for the baseline: a task's own protocol, a tolerance for each unit."""
    stub(folders / "bin", "tips-bench", f'printf "%s\\n" "$@" >> "{folders}/arguments"')
    defaults = {name.upper().replace("-", "_"): given["default"] for name, given in action()["inputs"].items() if name != "baseline"}
    assert step("Score", folders, **defaults | {"MODEL": "m"}).returncode == 0
    assert (folders / "arguments").read_text().splitlines() == ["run", "--task=rooms-seg", "--model=m", "--out=tips-bench-results"]
    (folders / "arguments").unlink()
    assert step("Check", folders, **defaults, BASELINE="b").returncode == 0
    assert [line.split("=")[0] for line in (folders / "arguments").read_text().splitlines()] == [
        "table", "tips-bench-results", "--format", "markdown",
        "check", "tips-bench-results", "--against", "--report", "--junit", "--markdown", "--github",
    ]  # fmt: skip


@pytest.mark.parametrize(("asked", "installed"), [("", "/action path[encoders]"), ("./fork", "./fork"), ("none", None)])
def test_the_action_installs_itself_with_all_encoders_unless_told_otherwise(folders: Path, asked: str, installed: str | None) -> None:
    stub(folders / "bin", "python", f'for last; do :; done; echo "$last" > "{folders}/installed"')
    assert step("Install", folders, INSTALL=asked, GITHUB_ACTION_PATH="/action path").returncode == 0
    found = (folders / "installed").read_text().strip() if (folders / "installed").is_file() else None
    assert found == installed


def test_the_example_workflow_gives_the_action_inputs_that_it_has() -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    workflows = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    steps = [step for workflow in workflows for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["with"] for step in steps if "tips-bench" in step.get("uses", "") or step.get("uses") == "./"]
    assert used and all(set(inputs) <= set(action()["inputs"]) for inputs in used)
    assert all(inputs.get("weights", inputs["model"]).startswith("./") for inputs in used), "what is scored is the pull request's own"
