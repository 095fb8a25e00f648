"""tips-bench compare: what it prints for two records, two folders, and a record beside the papers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.helpers.records import record
from tests.helpers.scored_records import pair, save_record
from tips_bench.cards import load_card
from tips_bench.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def records(tmp_path: Path) -> Path:
    counts_N23C = pair(np.random.default_rng(0), 60, 5, drop=0.3)
    for model, side in enumerate(("a", "b")):
        save_record(tmp_path / side / "record.json", counts_N23C[:, model], model=f"model-{side}")
    return tmp_path


def test_two_records_are_compared_in_words_bars_and_images(records: Path) -> None:
    done = run("compare", records / "a" / "record.json", records / "b" / "record.json")
    assert done.exit_code == 0, done.output
    for words in ("B is worse: mIoU -", "model-a", "60 images are enough to detect", "IoU by class", "█", "loss", "image-000"):
        assert words in done.stdout


def test_as_json_everything_is_there(records: Path) -> None:
    data = json.loads(run("compare", records / "a" / "record.json", records / "b" / "record.json", "--json").stdout)
    assert data["verdict"] == "A is better" and len(data["samples"]) == 60 and data["gain_ci95"][1] < 0


def test_two_folders_are_compared_cell_by_cell(records: Path) -> None:
    (records / "b" / "broken.json").write_text("{")
    done = run("compare", records / "a", records / "b")
    assert done.exit_code == 0 and "rooms-seg, convex" in done.stdout and "A is better" in done.stdout
    assert "broken.json: not JSON" in done.stderr
    assert json.loads(run("compare", records / "a", records / "b", "--json").stdout)["cells"]["rooms-seg, convex"]["gain"] < 0


def test_records_that_are_not_alike_are_refused_in_one_line(records: Path) -> None:
    save_record(records / "c.json", pair(np.random.default_rng(1), 9, 5)[:, 0], protocol_hash="9" * 64)
    done = run("compare", records / "a" / "record.json", records / "c.json")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
    assert "values of the protocol" in done.stderr and "scored data" in done.stderr


def test_beside_the_papers(tmp_path: Path) -> None:
    cards = {"protocol": load_card("protocol", "convex").model_dump(mode="json")}
    record("ade20k", "tips-g14", "convex", cards=cards).save(tmp_path / "a.json")
    done = run("compare", tmp_path / "a.json", "--published")
    assert done.exit_code == 0, done.output
    assert "49.90" in done.stdout and "the nearest to the paper's" in done.stdout
    assert json.loads(run("compare", tmp_path / "a.json", "--published", "--json").stdout)[0]["reported"]["paper"] == "TIPSv2"


@pytest.mark.parametrize("arguments", [["a.json"], ["a.json", "b.json", "--published"]])
def test_one_record_alone_or_too_much_is_a_mistake(arguments: list[str]) -> None:
    done = run("compare", *arguments)
    assert done.exit_code == 2 and "--published" in done.stderr
