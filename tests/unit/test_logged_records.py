"""Records in loggers: scores and the ends of their intervals arrive; real packages are tried at night."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.results_sets import write_record
from tests.unit.test_loggers import of_a_real_package
from tips_bench.cli.app import app
from tips_bench.registry import LOGGERS
from tips_bench.results.exchange.logged import log_record, numbers
from tips_bench.results.record import load_record

SEEN: list[tuple[str, dict[str, Any], dict[str, float]]] = []


class Kept:
    """Keeps what it is told in SEEN."""

    def __init__(self, folder: Path, store: Path, *, project: str, name: str, settings: Mapping[str, Any], step: int) -> None:
        assert folder.is_dir() and folder.is_relative_to(store) and project == "tips-bench" and step == 0
        self.name, self.settings = name, dict(settings)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        SEEN.append((self.name, self.settings, dict(values)))

    def close(self) -> None:
        pass


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], dict[str, float]]]:
    SEEN.clear()
    monkeypatch.setitem(LOGGERS._entries, "kept", Kept)
    return SEEN


def test_scores_and_the_ends_of_their_intervals_arrive(tmp_path: Path, seen: list[Any]) -> None:
    record = load_record(write_record(tmp_path, "tips-b14", 0.6))
    log_record(record, ["kept"], tmp_path / "loggers")
    ((name, settings, values),) = seen
    assert name == "tips-b14, rooms-seg, convex-224" and settings["protocol_hash"] == record.protocol_hash and settings["samples"] == 24
    low, high = record.primary_metric.ci95 or (0, 0)
    assert (values["mIoU"], values["mIoU/low"], values["mIoU/high"]) == (record.primary_metric.value, low, high)
    assert values["cost/wall_s"] == record.cost.wall_s


def test_what_was_not_scored_is_no_number(tmp_path: Path) -> None:
    record = load_record(write_record(tmp_path, "tips-b14", 0.6))
    record.metrics["mIoU"] = record.metrics["mIoU"].model_copy(update={"value": math.nan})
    assert "mIoU" not in numbers(record) and "mAcc" in numbers(record)


def test_a_run_shows_each_record_and_an_unknown_logger_stops_it_before_any_work(tmp_path: Path, seen: list[Any]) -> None:
    few = ["--set", "task.data.generator_options.train=8", "--set", "task.data.generator_options.val=4", "--limit", "3"]
    run = ["run", "--task", "rooms-seg", "--model", "pixels", "--protocol", "knn-capi", *few, "--out", str(tmp_path)]
    wrong = CliRunner().invoke(app, [*run, "--log-to", "wandbe"])
    assert wrong.exit_code == 2 and "wandb" in wrong.stderr and not list(tmp_path.iterdir())
    assert CliRunner().invoke(app, [*run, "--log-to", "kept"]).exit_code == 0
    assert [one[0] for one in seen] == ["pixels, rooms-seg, knn-capi"]


@of_a_real_package
@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_every_real_logger_gets_two_records_without_a_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for model, quality in (("tips-b14", 0.6), ("tips-nano", 0.5)):
        write_record(tmp_path / "results", model, quality)
    done = CliRunner().invoke(app, ["export-results", str(tmp_path / "results"), "--to", str(tmp_path / "out"), "--format", name])
    assert done.exit_code == 0 and "2 records" in done.stdout, done.output
    values = [numbers(load_record(path)) for path in sorted((tmp_path / "results").rglob("*.json"))]
    assert scores_in(name, tmp_path / "out") == pytest.approx(sorted(one["mIoU/low"] for one in values), rel=1e-6)


def scores_in(name: str, store: Path) -> list[float]:
    """What a logger has kept as "mIoU/low", of all runs."""
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        folders = {path.parent for path in store.rglob("events.out.*")}
        read = [EventAccumulator(str(folder)) for folder in folders]
        for one in read:
            one.Reload()
        return sorted(one.Scalars("mIoU/low")[-1].value for one in read)
    if name == "mlflow":
        with closing(sqlite3.connect(store / "mlflow.db")) as base:
            return sorted(value for (value,) in base.execute("select value from metrics where key = 'mIoU/low'"))
    if name == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        return sorted(SQLiteStorage.get_logs("tips-bench", run)[-1]["mIoU/low"] for run in SQLiteStorage.get_runs("tips-bench"))
    files = list(store.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    written = [float(number) for path in files for number in re.findall(rb"mIoU/low[^0-9]{1,8}([0-9]+\.[0-9]+)", path.read_bytes())]
    return sorted(set(written))
