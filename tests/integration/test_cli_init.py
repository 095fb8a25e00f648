"""tips-bench init: what it writes works as it is, and what it does not understand is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from tips_bench.cli import init
from tips_bench.cli.app import app
from tips_bench.rooms.writing.writers import write_rooms

ROOT = Path(__file__).resolve().parents[2]
SMALL = [word for change in ("image.short_side=56", "probe.patches_per_image=16") for word in ("--set", change)]


@pytest.fixture(autouse=True)
def _own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIPS_BENCH_DATA")


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments], input=input)


def test_an_encoder_a_task_and_a_score_in_three_commands(shapes: Path) -> None:
    assert run("init", "encoder", "fresh_encoder").exit_code == 0
    done = run("init", "task", "data/shapes", "--name", "fresh")
    assert done.exit_code == 0 and "segmentation, splits: train = train, test = val" in done.stdout, done.output
    assert run("data", "check", "fresh").exit_code == 0
    done = run("run", "--task", "fresh", "--model", "fresh_encoder:build", "--device", "cpu", "--workers", "0", *SMALL)
    assert done.exit_code == 0 and "mIoU" in done.stdout, done.output


@pytest.mark.parametrize(
    ("layout", "family"), [("depth-folder", "depth"), ("normals-folder", "normals"), ("imagefolder", "classification")]
)
def test_the_layouts_of_the_documentation_are_found(layout: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = "class-crops" if layout == "imagefolder" else "rooms"
    write_rooms(kind, Path("data/own"), train=4, val=2, size=64, frames_per_scene=2)
    for name in {"labels", "depth", "normals"} - {layout.partition("-")[0]}:
        shutil.rmtree(Path("data/own") / name, ignore_errors=True)
    done = run("init", "task", "data/own")
    assert done.exit_code == 0, done.output
    card = yaml.safe_load(Path("tips-bench-cards/tasks/own.yaml").read_text())
    assert (card["family"], card["data"]["reader"]) == (family, layout)
    assert run("show", "own").exit_code == 0 and run("data", "check", "own").exit_code != 2  # 1: so few rooms lack some classes


def test_captions_need_no_training_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/own/images").mkdir(parents=True)
    Path("data/own/test.csv").write_text("image,caption\n1.jpg,a chair\n")
    assert run("init", "task", "data/own").exit_code == 0
    card = yaml.safe_load(Path("tips-bench-cards/tasks/own.yaml").read_text())
    assert card["data"] == {"reader": "captions-folder", "root": "own", "splits": {"test": "test"}}


@pytest.mark.parametrize(("system", "file"), [("github", ".github/workflows/scores.yml"), ("gitlab", ".gitlab-ci.yml")])
def test_a_ci_job_gives_commands_and_inputs_that_exist(system: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("init", "ci", system, "--model", "./encoder/", "--task", "rooms-seg,rooms-depth").exit_code == 0
    job = yaml.load(Path(file).read_text(), yaml.BaseLoader)
    if system == "github":
        step = next(one for one in job["jobs"]["check"]["steps"] if one.get("uses", "").startswith("tips-bench/"))
        inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
        assert set(step["with"]) <= set(inputs) and step["with"]["task"] == "rooms-seg,rooms-depth"
    else:
        first, second = job["scores"]["script"]
        for command in (first, second):
            assert run(*command.split()[1:], "--help").exit_code == 0
        assert "--model ./encoder/" in first and "--against baselines" in second


def test_a_dialogue_asks_for_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init, "_somebody_is_there", lambda: True)
    assert run("init", input="encoder\nfresh\n").exit_code == 0 and Path("fresh.py").is_file()
    assert run("init", input="ci\ngitlab\nfresh:build\n\n").exit_code == 0 and "fresh:build" in Path(".gitlab-ci.yml").read_text()
    assert "none of encoder" in run("init", input="model\n").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody can answer"),
        (["encoder", "my-encoder"], "no name of a Python module"),
        (["encoder", "there"], "the file is there already"),
        (["ci", "jenkins"], "no starter for 'jenkins'"),
        (["ci", "github", "--model", "a; rm -r b"], "cannot stand in a CI file"),
        (["task", "data/none"], "there is no such folder"),
        (["task", "data/empty"], "none of the layouts"),
        (["task", "data/odd"], "no split to score among train"),
        (["task", "elsewhere"], "does not lie in the data root"),
    ],
)
def test_what_is_not_understood_is_one_sentence(arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.py").write_text("")
    for folder in ("data/empty", "data/odd/images/train", "data/odd/labels/train", "elsewhere/images/val", "elsewhere/labels/val"):
        Path(folder).mkdir(parents=True)
    done = run("init", *arguments)
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.output
    assert not Path("tips-bench-cards").exists()
