"""Evaluations on the way: the command that one is, how it ends, which are made, and what is asked of them before the training begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.cli.train import check_evaluations, evaluate
from tips_bench.errors import UserError
from tips_bench.executors.watched import TIMED_OUT
from tips_bench.training.evaluations import Evaluations
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


def test_threads_that_torchrun_set_are_not_for_an_evaluation_and_those_that_the_user_set_are(monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[dict[str, str]] = []

    def run(command: list[str], **options: Any) -> Any:
        environments.append(options["env"])
        return SimpleNamespace(returncode=0, stdout=json.dumps([{"metrics": {}}]), stderr="")

    for name, value in {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    for told in ({}, {"OMP_NUM_THREADS": "1"}):
        words, pipe = ["/bin/sh", "-c", "echo here; read never"], subprocess.PIPE
        with subprocess.Popen(words, env=told, stdin=pipe, stdout=pipe) as launcher, monkeypatch.context() as patch:
            assert launcher.stdout is not None and launcher.stdout.readline() == b"here\n"  # before, its environment may not be there yet
            patch.setattr(subprocess, "run", run)
            patch.setattr(os, "getppid", lambda pid=launcher.pid: pid)
            evaluate(EvaluationPart(every=1, task="rooms-seg"), Path("model"), Path("out"))
            launcher.kill()
    assert ["OMP_NUM_THREADS" in environment for environment in environments] == [False, True]


def watched(seconds: str, *command: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tips_bench.executors.watched", seconds, *command]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_command_ends_with_the_process_that_started_it() -> None:
    with watched("600", "sh", "-c", "echo $$; exec sleep 600") as process:
        assert process.stdin is not None and process.stdout is not None
        pid = int(process.stdout.readline())
        process.stdin.close()
        assert process.wait() != 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("seconds", "command", "status"),
    [("0", ["sleep", "600"], TIMED_OUT), ("600", ["sh", "-c", "exit 3"], 3), ("600", ["no-such-program"], 2)],
)
def test_a_command_gives_its_status_or_that_of_a_time_that_is_over(seconds: str, command: list[str], status: int) -> None:
    with watched(seconds, *command) as process:
        assert process.wait() == status


def test_an_evaluation_whose_time_is_over_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=TIMED_OUT, stdout="", stderr="srun: cancelled"))
    with pytest.raises(UserError, match=r"it had not ended after 30 minutes\. Raise evaluation\.timeout_minutes"):
        evaluate(EvaluationPart(every=1, task="rooms-seg", timeout_minutes=30), Path("model"), Path("out"))


def test_a_model_that_cannot_be_exported_is_a_fault_of_its_evaluations_and_ends_nothing(tmp_path: Path) -> None:
    parts = [EvaluationPart(every=1, task="rooms-seg"), EvaluationPart(every=2, task="rooms-depth")]
    made = Evaluations(tmp_path, parts, lambda *_: {"mIoU": 1.0}, 0, last=4)
    made.export(2)  # of a folder that holds no run
    made.start(2)
    found = made.found(wait=threading.Event())
    assert [(scored.step, scored.task, scored.metrics) for scored in found] == [(2, "rooms-seg", {}), (2, "rooms-depth", {})]
    assert all("not the folder of a training run" in (scored.fault or "") for scored in found)


def test_a_run_that_goes_on_makes_the_scores_that_are_missing_and_tries_again_what_failed(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (tmp_path / "evaluations" / f"step-0000000{step}").mkdir(parents=True)
    lines = [{"step": 1, "task": "rooms-seg", "metrics": {"mIoU": 1.0}}, {"step": 2, "task": "rooms-seg", "metrics": {}, "fault": "in use"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"event": "evaluation", **line}) + "\n" for line in lines))
    parts = [EvaluationPart(every=1, task="rooms-seg")]
    made = Evaluations(tmp_path, parts, lambda part, model, out: {"mIoU": float(model.name[-1])}, 3, last=9)
    assert [(scored.step, scored.metrics) for scored in made.found(wait=threading.Event())] == [(2, {"mIoU": 2.0}), (3, {"mIoU": 3.0})]


def test_what_a_row_of_bad_steps_put_off_is_made_behind_it_and_by_a_run_that_goes_on(tmp_path: Path) -> None:
    for step in (3, 12, 13):
        (tmp_path / "evaluations" / f"step-{step:08d}").mkdir(parents=True)
    events = [(2, "passed over"), (9, "bad step"), (10, "passed over"), (11, "bad step")]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps({"step": step, "event": event}) + "\n" for step, event in events))
    parts = [EvaluationPart(every=10, task="rooms-seg"), EvaluationPart(every=2, task="rooms-depth")]
    made = Evaluations(tmp_path, parts, lambda *_: {"mIoU": 1.0}, 13, last=99)
    assert [(scored.step, scored.task) for scored in made.found(wait=threading.Event())] == [(12, "rooms-seg"), (12, "rooms-depth")]
    made.put_off(20)
    (tmp_path / "evaluations" / "step-00000021").mkdir()
    made.start(21)
    assert [(scored.step, scored.task) for scored in made.found(wait=threading.Event())] == [(21, "rooms-seg"), (21, "rooms-depth")]


def test_evaluations_that_differ_in_their_overrides_alone_are_two(tmp_path: Path) -> None:
    (tmp_path / "evaluations" / "step-00000001").mkdir(parents=True)
    parts = [EvaluationPart(every=1, task="rooms-seg", overrides=[f"task.data.root=a/{seed}"]) for seed in (91, 92)]
    first = {"event": "evaluation", "step": 1, "task": "rooms-seg", "overrides": ["task.data.root=a/91"], "metrics": {"mIoU": 1.0}}
    (tmp_path / "log.jsonl").write_text(json.dumps(first) + "\n")
    made = Evaluations(tmp_path, parts, lambda part, model, out: {"mIoU": 2.0}, 1, last=1)
    (scored,) = made.found(wait=threading.Event())
    assert scored.overrides == ["task.data.root=a/92"]
    assert scored.named_metrics == {"evaluation/rooms-seg/task.data.root=a_92/mIoU": 2.0}


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
