"""`tips-bench bench`, and `auto` for the batch size and the workers of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.integration.test_runs import SMALL, stable
from tips_bench.cli.app import app
from tips_bench.encoders import flops
from tips_bench.evaluation import bench as measuring
from tips_bench.evaluation.run import evaluate
from tips_bench.features import trial
from tips_bench.results.record import load_record


@pytest.fixture(autouse=True)
def short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trial.SECONDS, "cpu", 0.5)
    monkeypatch.setattr(measuring, "SECONDS", 0.5)
    monkeypatch.setitem(flops.SIDES, "cpu", 256)


def bench(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["bench", "--device", "cpu", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_model_is_measured_without_data_in_a_table_of_80_columns() -> None:
    lines = bench("--model", "tips-tiny-random", "--resolution", "56", "--batch-size", "1,2").splitlines()
    assert max(map(len, lines)) <= 80
    assert "56x56 pixels" in lines[0] and "measured" in lines[1]
    assert [line.split()[0] for line in lines if line[:1].isdigit() and "%" in line] == [
        "1",
        "2",
    ]  # "2 processors decode too few" may follow
    assert lines[-1].startswith("best      --batch-size ") and "--workers" in lines[-1]


def test_the_figures_agree_with_each_other() -> None:
    found = json.loads(bench("--model", "tips-tiny-random", "--resolution", "56", "--json"))
    assert found["best"]["batch_size"] in [row["batch_size"] for row in found["encoder"]]
    for row in found["encoder"]:
        assert row["share_of_peak"] == pytest.approx(row["images_per_s"] * found["flops"] / found["peak"])
    assert found["copied"] is None and found["copy_s"] == 0 and found["decode_s"] > 0 and found["images"] == "made photos of 480x640"


def test_the_images_of_a_task_are_decoded_at_the_size_of_its_protocol(shapes: Path) -> None:
    found = json.loads(bench("--model", "tips-tiny-random", "--task", "shapes", "--protocol", "convex-224", "--batch-size", "2", "--json"))
    assert found["images"] == "images of shapes" and found["height"] == 224


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch-size", "0"], "'0' is not a whole number from 1 on"),
        (["--batch-size", "2,auto"], "exclude each other"),
        (["--protocol", "convex"], "a protocol is for a task"),
        (["--task", "rooms-sge"], "rooms-seg"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_status_2(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "--model", "pixels", *arguments])
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1 and said in done.stderr


@pytest.mark.parametrize("model", ["pixels", "tips-tiny-random"])
def test_a_run_whose_settings_a_trial_chose_has_the_record_of_one_whose_settings_were_given(shapes: Path, model: str) -> None:
    given = evaluate("shapes", model, out=shapes / "a", overrides=SMALL, batch_size=1, workers=1)
    chosen = evaluate("shapes", model, out=shapes / "b", overrides=SMALL, batch_size="auto", workers="auto")
    same = evaluate("shapes", model, out=shapes / "c", overrides=SMALL, batch_size=chosen.cost.batch_size, workers=1)
    assert stable(chosen) == stable(same)
    assert chosen.metrics == given.metrics and chosen.per_class == given.per_class
    assert np.array_equal(*(np.load(record.path.with_name(record.per_sample))["counts"] for record in (given, chosen)))
    assert (given.cost.batch_size, given.cost.workers) == (1, 1)
    assert (chosen.cost.batch_size or 0) >= 1 and (chosen.cost.workers or 0) >= 1
    assert given.cost.data_wait_s is not None and 0 <= given.cost.data_wait_s <= given.cost.wall_s


def test_auto_on_the_command_line_reaches_the_record(shapes: Path, tmp_path: Path) -> None:
    options = ["--model", "pixels", "--batch-size", "auto", "--workers", "auto", "--set", SMALL[0], "--set", SMALL[1]]
    done = CliRunner().invoke(app, ["run", "--task", "shapes", "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out").rglob("*.json")
    assert load_record(path).cost.batch_size is not None


def test_a_batch_size_that_is_no_number_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--task", "rooms-seg", "--model", "pixels", "--workers", "many", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "--workers" in done.stderr and "`auto`" in done.stderr
