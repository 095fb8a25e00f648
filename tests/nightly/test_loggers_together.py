"""A run that several loggers follow at once: after it was stopped and resumed, each has all of its steps, in one run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.pretraining import recipe, write_shards
from tips_bench.loggers.base import kept_id
from tips_bench.training import checkpoint
from tips_bench.training.log import read_log
from tips_bench.training.loop import train

LOGGERS = ["tensorboard", "mlflow", "wandb", "trackio"]  # each with the name of its package
Steps = list[tuple[int, float]]


def of_tensorboard(run: Path) -> Steps:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    return [(scalar.step, scalar.value) for scalar in read.Scalars("loss")]


def of_mlflow(run: Path) -> Steps:
    with closing(sqlite3.connect(run / "mlflow.db")) as base:
        assert base.execute("select count(*), min(status) from runs").fetchall() == [(1, "FINISHED")]
        return base.execute("select step, value from metrics where key = 'loss' order by step").fetchall()


def of_trackio(run: Path) -> Steps:
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = [name for name in SQLiteStorage.get_runs("tips-bench") if name.endswith(kept_id(run, "trackio"))]
    return [(line["step"], line["loss"]) for line in SQLiteStorage.get_logs("tips-bench", name)]


READ: dict[str, Callable[[Path], Steps]] = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "trackio": of_trackio}


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_every_logger_has_all_steps_of_a_run_that_was_stopped_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for package in LOGGERS:
        pytest.importorskip(package)
    shards, run = write_shards(tmp_path / "shards"), tmp_path / "run"
    chosen = recipe(shards, steps=6, running={"log_every": 1, "checkpoint_every": 2, "keep": 3, "loggers": LOGGERS})
    assert train(chosen, run, device="cpu") == "finished"
    newest = checkpoint.folder_at(run, 6)
    newest.rename(newest.with_name(f".{newest.name}.tmp"))  # as if the run had been killed while it was written
    assert train(chosen, run, resume=True, device="cpu") == "finished"
    wanted = {line["step"]: line["loss"] for line in read_log(run) if "loss" in line}
    assert list(wanted) == [1, 2, 3, 4, 5, 6]
    for name, read in READ.items():
        found = read(run)
        assert {step for step, _ in found} == set(wanted), name
        assert all(value == pytest.approx(wanted[step], rel=1e-6) for step, value in found), name
    files = list((run / "wandb").glob("offline-run-*/*.wandb"))  # only its server reads them
    assert len(files) == 2 and {path.stem for path in files} == {f"run-{kept_id(run, 'wandb')}"}
