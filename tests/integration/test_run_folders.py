"""The folder of a run: one process trains in it, a failed start leaves none, it resumes with what was set, and is exported whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.helpers.pretraining import recipe, write_recipe, write_shards
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.training import runs
from tips_bench.training.claim import LOCK_FILE, claimed
from tips_bench.training.log import read_log
from tips_bench.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
STEPS = "stages.0.steps"
RATE = "stages.0.learning_rate"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def begun(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml and a run of it of 8 steps, whose length was set."""
    folder = tmp_path_factory.mktemp("begun")
    write_recipe(folder / "tiny.yaml", shards, steps=20, running={"checkpoint_every": 4, "log_every": 1})
    done = command(folder, "--set", f"{STEPS}=8")
    assert done.exit_code == 0, done.stderr
    return folder


def command(folder: Path, *arguments: str) -> Result:
    """`train` of tiny.yaml in a folder, the run beside it."""
    return CliRunner().invoke(app, ["train", str(folder / "tiny.yaml"), "--out", str(folder / "run"), "--device", "cpu", *arguments])


@pytest.fixture
def mine(begun: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(begun, tmp_path / "mine"))


def stored(folder: Path, key: str) -> Any:
    node = json.loads((folder / "run" / runs.RECIPE_FILE).read_text())
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def test_a_second_start_in_a_folder_is_one_sentence_while_the_first_goes_on(shards: str, tmp_path: Path) -> None:
    write_recipe(tmp_path / "tiny.yaml", shards)
    script = (
        "import sys; from pathlib import Path\n"
        "from tips_bench.training.claim import claimed; from tips_bench.training.recipe_files import load_recipe\n"
        f"with claimed(Path({str(tmp_path / 'run')!r}), load_recipe('tips-nano'), resume=False):\n"
        "    print('claimed', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None and first.stdout.readline() == "claimed\n"
    for arguments in ([], ["--resume"]):
        second = command(tmp_path, *arguments)
        assert second.exit_code == 2 and second.stderr.count("\n") == 1, second.stderr
        assert "another process trains in this folder" in second.stderr
    first.kill()
    first.communicate()
    assert (tmp_path / "run" / LOCK_FILE).is_file()
    with claimed(tmp_path / "run", recipe(shards), resume=False):
        pass


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    write_recipe(tmp_path / "tiny.yaml", str(tmp_path / "none.tar"))
    failed = command(tmp_path)
    assert failed.exit_code == 2 and "shards are missing" in failed.stderr
    assert not (tmp_path / "run").exists()


def test_a_start_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_recipe(tmp_path / "tiny.yaml", str(tmp_path / "none.tar"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert command(tmp_path).exit_code == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_the_end_says_the_loss_and_what_comes_next(mine: Path) -> None:
    again = command(mine, "--resume")
    assert again.exit_code == 0, again.stderr
    loss = [line["loss"] for line in read_log(mine / "run") if "loss" in line][-1]
    assert f"loss {loss:.4g}" in again.stdout and f"tips-bench export {mine / 'run'}" in again.stdout


def test_a_run_goes_on_with_what_was_set_without_saying_it_again(mine: Path) -> None:
    resumed = command(mine, "--resume", "--set", f"{STEPS}=10")
    assert resumed.exit_code == 0, resumed.stderr
    assert [line["step"] for line in read_log(mine / "run") if "loss" in line] == list(range(1, 11))
    assert stored(mine, STEPS) == 10
    once_more = command(mine, "--resume")
    assert once_more.exit_code == 0, once_more.stderr
    assert read_log(mine / "run")[-1]["step"] == 10


def test_a_rate_and_a_teacher_s_temperature_may_change_when_told_and_the_log_says_so(mine: Path) -> None:
    key = "method.patches.sharpening.teacher"
    changed = command(mine, "--resume", *(part for value in (f"{STEPS}=12", f"{RATE}=0.0004", f"{key}=0.05") for part in ("--set", value)))
    assert changed.exit_code == 0, changed.stderr
    (event,) = (line for line in read_log(mine / "run") if line.get("event") == "changed")
    assert event["step"] == 8 and event["values"] == {STEPS: [8, 12], RATE: [0.001, 0.0004], key: [0.07, 0.05]}
    assert stored(mine, RATE) == 0.0004
    rates = {line["step"]: line["learning_rate"] for line in read_log(mine / "run") if "loss" in line}
    assert rates[3] == 0.001 and rates[9] < 0.0004


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("seed=7", "the run was started with another seed"),
        ("method.contrastive.temperature=0.1", "started with another method.contrastive.temperature"),
        (f"{STEPS}=5", f"{STEPS} = 5: the run has done 8 of 8 steps of that stage"),
    ],
)
def test_what_cannot_change_is_refused_though_told(mine: Path, assignment: str, said: str) -> None:
    refused = command(mine, "--resume", "--set", assignment)
    assert refused.exit_code == 2 and said in refused.stderr
    assert not any(line.get("event") == "changed" for line in read_log(mine / "run"))


def test_a_recipe_file_that_was_edited_meanwhile_has_to_be_told(mine: Path, shards: str) -> None:
    running = {"checkpoint_every": 4, "log_every": 1}
    write_recipe(mine / "tiny.yaml", shards, steps=20, running=running, optimizer__clip_norm=1.0)
    refused = command(mine, "--resume")
    assert refused.exit_code == 2 and "say so: --set optimizer.clip_norm=VALUE" in refused.stderr
    told = command(mine, "--resume", "--set", "optimizer.clip_norm=1.0")
    assert told.exit_code == 0, told.stderr


def test_a_run_that_diverged_goes_on_as_its_message_says(shards: str, tmp_path: Path) -> None:
    write_recipe(tmp_path / "tiny.yaml", shards, steps=10, running={"log_every": 1}, stages__0__warmup=0)
    lost = command(tmp_path, "--set", f"{RATE}=1e30")
    assert lost.exit_code == 2 and f"--resume --set {RATE}=VALUE" in lost.stderr
    found = command(tmp_path, "--resume", "--set", f"{RATE}=1.0e-3")
    assert found.exit_code == 0, found.stderr


def test_an_export_is_replaced_whole_and_never_put_among_other_files(begun: Path, tmp_path: Path) -> None:
    to = tmp_path / "model"
    runs.export(begun / "run", to, step=4)
    before = {path.name: path.read_bytes() for path in to.iterdir()}
    assert set(before) == set(runs.EXPORTED)
    umask = os.umask(0)
    os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in to.iterdir()} == {0o666 & ~umask}
    (to / "NOTES.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds files that no export wrote, the first is 'NOTES\.md'"):
        runs.export(begun / "run", to)
    assert {name: (to / name).read_bytes() for name in before} == before
    done = CliRunner().invoke(app, ["export", str(begun / "run"), "--to", str(to), "--overwrite"])
    assert done.exit_code == 0, done.stderr
    assert (to / "NOTES.md").read_text() == "mine" and (to / "model.safetensors").read_bytes() != before["model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_that_fails_leaves_the_one_before(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "model"
    runs.export(begun / "run", to, step=4)
    before = {path.name: path.read_bytes() for path in to.iterdir()}

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "tokenizer_of", full)
    with pytest.raises(UserError, match="No space left"):
        runs.export(begun / "run", to)
    assert {path.name: path.read_bytes() for path in to.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_api_needs_to_be_told_as_well(begun: Path, shards: str) -> None:
    running = {"checkpoint_every": 4, "log_every": 1}
    with pytest.raises(UserError, match=r"another stages\.0\.steps"):
        train(recipe(shards, 9, running=running), begun / "run", resume=True, device="cpu")
