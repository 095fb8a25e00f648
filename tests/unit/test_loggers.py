"""Loggers: nothing waits for them, one that fails is tried again, and each real one keeps what it is given, without a network."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tips_bench.errors import UserError
from tips_bench.loggers import base
from tips_bench.loggers.base import Loggers, kept_id, open_loggers
from tips_bench.registry import LOGGERS

NUMBERS = [(1, {"loss": 3.0, "contrastive/0": 2.5}), (2, {"loss": 2.0, "contrastive/0": 1.5}), (2, {"loss": 1.0, "contrastive/0": 0.5})]


class Remembering:
    """Keeps what it is told, and fails when it is told a loss below its patience."""

    def __init__(self, patience: float = 0.0) -> None:
        self.patience, self.seen, self.closed = patience, [], 0

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        if values["loss"] < self.patience:
            raise ConnectionError("the server has gone away")
        self.seen.append((step, dict(values)))

    def close(self) -> None:
        self.closed += 1


def give(loggers: Loggers, numbers: list[tuple[int, dict[str, float]]] = NUMBERS) -> None:
    for step, values in numbers:
        loggers.numbers(step, values)


def test_a_logger_that_fails_is_told_of_once_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    strong, weak = Remembering(), Remembering(patience=2.5)
    loggers = Loggers({"weak": weak, "strong": strong})
    give(loggers)
    loggers.close()
    loggers.close()
    assert strong.seen == NUMBERS and weak.seen == NUMBERS[:1] and strong.closed == weak.closed == 1
    (failed,) = capsys.readouterr().err.splitlines()
    assert "logger 'weak'" in failed and "the server has gone away" in failed and "goes on, and tries it again every 5 minutes" in failed


def test_a_logger_that_has_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(base, "RETRY_S", 0.0)
    logger = Remembering(patience=2.5)
    with closing(Loggers({"one": logger})) as loggers:
        give(loggers, [*NUMBERS[:2], (3, {"loss": 4.0}), (4, {"loss": 5.0})])
        while len(logger.seen) < 3:
            threading.Event().wait(0.01)
    assert [step for step, _ in logger.seen] == [1, 3, 4]
    failed, works = capsys.readouterr().err.splitlines()
    assert "the server has gone away" in failed and works == "logger 'one': it works again."


def test_nothing_waits_for_a_logger_that_is_slow() -> None:
    answers = threading.Event()

    class Slow(Remembering):
        def numbers(self, step: int, values: Mapping[str, float]) -> None:
            assert answers.wait(60)
            super().numbers(step, values)

    slow = Slow()
    loggers = Loggers({"slow": slow})
    give(loggers)
    assert slow.seen == []
    answers.set()
    loggers.close()
    assert slow.seen == NUMBERS


def test_one_that_never_ends_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(base, "PATIENCE_S", 0.0)
    answers = threading.Event()

    class Stuck(Remembering):
        def close(self) -> None:
            answers.wait(60)

    Loggers({"stuck": Stuck()}).close()
    answers.set()
    assert "logger 'stuck': it has not ended after 0 s" in capsys.readouterr().err


def open_(names: list[str] | None, folder: Path, step: int = 0) -> Loggers:
    return open_loggers(names, folder, project="tests", name="tiny", settings={"seed": 0, "stages.0.steps": 20}, step=step)


def test_a_name_that_is_unknown_and_a_package_that_is_missing_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no logger named 'tensorbord'"):
        open_(["tensorbord"], tmp_path)
    monkeypatch.setitem(LOGGERS._entries, "gone", "a_package_that_nobody_has.logger:Logger")
    with pytest.raises(UserError, match=r"logger 'gone'.*not installed.*tips-bench\[loggers\]"):
        open_(["gone"], tmp_path)


def test_one_that_cannot_be_opened_closes_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Remembering()

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no such project")

    monkeypatch.setitem(LOGGERS._entries, "first", lambda *args, **kwargs: first)
    monkeypatch.setitem(LOGGERS._entries, "broken", broken)
    with pytest.raises(UserError, match=r"logger 'broken'.*cannot be opened.*no such project"):
        open_(["first", "broken"], tmp_path)
    assert first.closed == 1


def test_one_that_cannot_be_opened_when_a_run_goes_on_is_opened_later_and_shows_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late, there, opened = Remembering(), threading.Event(), threading.Event()

    def late_one(*args: Any, **kwargs: Any) -> Remembering:
        if not there.is_set():
            raise ConnectionError("the server is not up yet")
        opened.set()
        return late

    monkeypatch.setattr(base, "RETRY_S", 0.0)
    monkeypatch.setitem(LOGGERS._entries, "late", late_one)
    with pytest.raises(UserError, match="the server is not up yet"):
        open_(["late"], tmp_path)
    with pytest.raises(UserError, match="there is no logger named 'tensorbord'"):
        open_(["late", "tensorbord"], tmp_path, step=1)
    capsys.readouterr()
    with closing(open_(["late"], tmp_path, step=1)) as loggers:
        give(loggers, NUMBERS[:2])
        there.set()
        give(loggers, NUMBERS[2:])
        assert opened.wait(60)
    assert late.seen == NUMBERS and late.closed == 1
    said = capsys.readouterr().err
    assert said.startswith("logger 'late': it cannot be opened: ConnectionError: the server is not up yet") and said.count("goes on") == 1


def test_one_that_could_not_be_opened_until_the_end_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the server is not up")

    monkeypatch.setitem(LOGGERS._entries, "broken", broken)
    loggers = open_(["broken"], tmp_path, step=1)
    give(loggers)
    loggers.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "logger broken"]


def test_what_a_logger_knows_a_run_by_stays(tmp_path: Path) -> None:
    assert kept_id(tmp_path, "one") == kept_id(tmp_path, "one") != kept_id(tmp_path, "other")


def of_a_real_package(test: Any) -> Any:
    """Of a package that need not be installed, takes its time and has warnings of its own."""
    return pytest.mark.nightly(pytest.mark.filterwarnings("ignore")(test))


def log(name: str, folder: Path) -> None:
    """Two steps, and the second again as after a resume."""
    for start, numbers in ((0, NUMBERS[:2]), (1, NUMBERS[2:])):
        with closing(open_([name], folder, start)) as loggers:
            give(loggers, numbers)


@of_a_real_package
def test_tensorboard_shows_what_came_last(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log("tensorboard", tmp_path)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(scalar.step, scalar.value) for scalar in read.Scalars("loss")] == [(1, 3.0), (2, 1.0)]


@of_a_real_package
def test_mlflow_keeps_one_run_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log("mlflow", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as base:
        assert base.execute("select key, step, value from metrics where key = 'loss' order by timestamp, value desc").fetchall() == [
            ("loss", step, values["loss"]) for step, values in NUMBERS
        ]
        assert base.execute("select count(*), min(status) from runs").fetchall() == [(1, "FINISHED")]
        assert dict(base.execute("select key, value from params").fetchall()) == {"seed": "0", "stages.0.steps": "20"}


@of_a_real_package
def test_wandb_writes_its_files_where_nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    log("wandb", tmp_path)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2 and {path.stem for path in files} == {f"run-{kept_id(tmp_path, 'wandb')}"}
    assert b"contrastive/0" in files[0].read_bytes()


@of_a_real_package
def test_trackio_keeps_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    log("trackio", tmp_path)
    (run,) = [name for name in SQLiteStorage.get_runs("tests") if name.endswith(kept_id(tmp_path, "trackio"))]
    assert [(row["step"], row["loss"]) for row in SQLiteStorage.get_logs("tests", run)] == [(step, v["loss"]) for step, v in NUMBERS]
