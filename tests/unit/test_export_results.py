"""Records in the formats of others: read back by the readers of those formats, with intervals, and nothing that only looks comparable."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from typer.testing import CliRunner

from tests.helpers.records import record, said
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.results.exchange import every_eval_ever
from tips_bench.results.exchange.files import Origin, exported, may_leave
from tips_bench.results.record import MetricValue, Record

CREATED = "2026-11-26T12:00:00+00:00"
NAN = float("nan")


def one(task: str = "ade20k", model: str = "tips-b14", **changes: Any) -> Record:
    cards = {"task": {"title": "ADE20K", "homepage": "https://example.org"}, "model": {"weights": {"hub": "google/tipsv1-b14"}}}
    depth = {"RMSE": MetricValue(value=0.5, unit="m", higher_is_better=False, ci95=None, n=3)}
    empty = {"aAcc": MetricValue(value=NAN, unit="%", higher_is_better=True, n=0)}
    known = record(task, model, None, created=CREATED, cards=cards)
    return known.model_copy(update={"metrics": known.metrics | depth | empty} | changes)


def written(records: list[Record], format: Any, **origin: Any) -> dict[str, str]:
    return {str(place): text for place, text in exported(records, format, Origin(**origin))}


def test_eval_results_of_hugging_face_are_read_by_its_own_parser_and_name_a_task_of_the_benchmark() -> None:
    files = written([one(), one("voc")], "hugging-face", benchmark="lab/tips", source_url="https://lab.org/board")
    tasks = yaml.safe_load(files.pop("benchmark/eval.yaml"))["tasks"]
    assert sorted(files) == [f"models/tips-b14/.eval_results/{task}-convex-00000000.yaml" for task in ("ade20k", "voc")]
    for text in files.values():
        (entry,) = parse_eval_result_entries(yaml.safe_load(text))
        assert entry.value == 41.25 and entry.dataset_id == "lab/tips" and entry.date == CREATED
        assert entry.task_id in {task["id"] for task in tasks}
        assert entry.notes is not None and "95 % interval 40 to 42.5" in entry.notes


def test_a_model_index_is_read_by_the_hubs_own_card_class() -> None:
    (text,) = written([one(), one("voc")], "model-index").values()
    results = ModelCard(text).data.eval_results
    assert results is not None and len(results) == 4  # what was not scored is left out
    assert {(result.dataset_type, result.metric_value) for result in results} == {
        (task, value) for task in ("ade20k", "voc") for value in (41.25, 0.5)
    }
    assert {result.dataset_name for result in results} == {"ADE20K"}  # not the reader's name, which is "folder" for many


def test_a_record_for_every_eval_ever_keeps_its_intervals_directions_and_bounds() -> None:
    ((place, text),) = written([one()], "every-eval-ever", organization="Lab").items()
    assert PurePosixPath(place).parent == PurePosixPath("data/tips-bench/google/tipsv1-b14")
    miou, rmse = json.loads(text)["evaluation_results"]
    interval = miou["score_details"]["uncertainty"]["confidence_interval"]
    assert (miou["score_details"]["score"], interval["lower"], interval["upper"]) == (41.25, 40.0, 42.5)
    assert (miou["metric_config"]["min_score"], miou["metric_config"]["max_score"]) == (0, 100)
    assert rmse["metric_config"]["lower_is_better"] and rmse["metric_config"]["max_score"] == "Infinity"
    assert "confidence_interval" not in rmse["score_details"]["uncertainty"]


def test_the_same_record_is_the_same_file_and_another_is_another() -> None:
    first, again, other = (every_eval_ever.place(r, None).name for r in (one(), one(), one(seed=1)))
    assert first == again != other


def test_a_model_that_no_hub_knows_needs_a_developer() -> None:
    own = one(model="mine", cards={"task": {}, "model": {}})
    other = one(model="another", cards={"task": {}, "model": {}})
    with pytest.raises(UserError, match=r"who made another, mine, and .* --developer"):
        written([own, one(), other], "every-eval-ever", organization="Lab")
    (place,) = written([own], "every-eval-ever", organization="Lab", developer="My lab")
    assert place.startswith("data/tips-bench/My-lab/mine/")


@pytest.mark.parametrize("benchmark", [None, "no-owner", "a/b/c", "../x", "a/ b"])
def test_hugging_face_needs_a_benchmark(benchmark: str | None) -> None:
    with pytest.raises(UserError, match="--benchmark"):
        written([one()], "hugging-face", benchmark=benchmark)


def test_long_csv_has_a_row_a_metric_and_no_path_of_this_machine() -> None:
    frame = pd.read_csv(io.StringIO(written([one()], "csv-long")["results-long.csv"]))
    assert "path" not in frame and frame["metric"].tolist() == ["mIoU", "RMSE", "aAcc"]
    assert frame["ci_low"].tolist()[0] == 40


def test_a_number_under_other_conditions_stays_unless_it_is_asked_for() -> None:
    clean, limited = one(), one("voc", comparable=False, deviations=said("limit = 8"))
    assert may_leave([clean, limited], deviating=False) == ([clean], [limited])
    kept, held_back = may_leave([clean, limited], deviating=True)
    assert not held_back
    files = written(kept, "hugging-face", benchmark="a/b")
    assert ["limit = 8" in text for name, text in files.items() if ".eval_results" in name] == [False, True]


def test_the_command_writes_files_and_says_how_many(tmp_path: Path) -> None:
    one().save(tmp_path / "results" / "a.json")
    one("voc", comparable=False).save(tmp_path / "results" / "b.json")
    done = CliRunner().invoke(app, ["export-results", str(tmp_path / "results"), "--to", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "1 record, 2 files in" in done.output and "left out: 1 record with deviations" in done.output
    assert pd.read_csv(tmp_path / "out" / "results.csv").to_dict("records") == [
        {"Model": "tips-b14", "Total Parameters (B)": pytest.approx(math.nan, nan_ok=True), "Mean (Task)": 41.25, "ade20k": 41.25}
    ]


PEERS = Path(sys.prefix) / "peers"  # where the Makefile puts Every Eval Ever without its dependencies


@pytest.mark.slow
def test_every_eval_evers_own_validator_accepts_the_files_and_refuses_a_broken_one(tmp_path: Path) -> None:
    assert (PEERS / "every_eval_ever").is_dir(), "Every Eval Ever is not there; install what tests need: make .venv/.installed-test"
    files = {tmp_path / place: text for place, text in exported([one(), one("voc")], "every-eval-ever", Origin(organization="Lab"))}
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def validate() -> subprocess.CompletedProcess[str]:
        check = [sys.executable, "-m", "every_eval_ever", "validate", *map(str, files)]
        return subprocess.run(check, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(PEERS)})

    done = validate()
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    file.write_text(text.replace('"confidence_level": 0.95', '"confidence_level": "high"'))
    done = validate()
    assert done.returncode == 1 and "confidence_level" in done.stdout and "1 passed" in done.stdout, done.stdout + done.stderr


def test_every_eval_evers_own_schema_holds_for_every_file() -> None:
    schema = json.loads((PEERS / "every_eval_ever" / "schemas" / "eval.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.check_schema(schema)
    assert schema["version"] == every_eval_ever.SCHEMA_VERSION
    for text in written([one(), one("voc")], "every-eval-ever", organization="Lab").values():
        assert not list(validator.iter_errors(json.loads(text)))
    assert list(validator.iter_errors({"schema_version": every_eval_ever.SCHEMA_VERSION}))
