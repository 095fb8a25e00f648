"""The command that an evaluation on the way is, and what is asked of it before the training begins."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.cli.train import check_evaluations, evaluate
from tips_bench.errors import UserError
from tips_bench.training.recipe_beside import EvaluationPart


@pytest.mark.parametrize(
    ("world", "part", "device"),
    [
        ("1", {}, None),
        ("8", {}, "cpu"),
        ("8", {"device": "cuda:1"}, "cuda:1"),
        ("8", {"launch": "srun --gpus 1"}, None),
    ],
)
def test_an_evaluation_beside_several_ranks_leaves_them_their_gpus(
    monkeypatch: pytest.MonkeyPatch, world: str, part: dict[str, Any], device: str | None
) -> None:
    asked: list[str] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.extend(command)
        assert "WORLD_SIZE" not in options["env"]
        return SimpleNamespace(returncode=0, stdout=json.dumps([{"metrics": {"mIoU": {"value": 1.5}}}]), stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert evaluate(EvaluationPart(every=1, task="rooms-seg", **part), Path("model"), Path("out")) == {"mIoU": 1.5}
    assert [word for word in asked if word.startswith("--device")] == ([] if device is None else [f"--device={device}"])


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"device": "tpu"}, "'tpu' is not a device"),
        ({"launch": "no-such-program --gpus 1"}, "evaluation.launch = 'no-such-program --gpus 1': there is no such program"),
        ({"overrides": ["image.shortest=3"]}, "shortest"),
        ({"protocol": "convex-depth"}, "is not allowed for this task"),
        ({"task": "rooms-sgm"}, "rooms-seg"),
    ],
)
def test_what_an_evaluation_lacks_is_said_before_the_first_step(part: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as found:
        check_evaluations([EvaluationPart(**{"every": 1, "task": "rooms-seg"} | part)])
    assert said in str(found.value)


def test_data_that_are_not_there_yet_are_told_and_those_of_another_machine_are_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path))
    check_evaluations([EvaluationPart(every=1, task="ade20k", launch="env A=1")])
    assert capsys.readouterr().err == ""
    check_evaluations([EvaluationPart(every=1, task="ade20k"), EvaluationPart(every=1, task="rooms-seg")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tips-bench: the data of ade20k are not here yet")


@pytest.mark.parametrize("option", [["--ranks", "8"], ["--json"]])
def test_options_of_the_plan_train_nothing(option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["train", "tips-nano", *option])
    assert done.exit_code == 2 and f"{option[0]}: this is an option of the plan alone" in done.stderr and "torchrun" in done.stderr
    assert not list(tmp_path.iterdir())
