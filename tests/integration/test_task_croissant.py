"""The data of each task in Croissant: what it says, and that the format's own checker takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tips_bench.cards import load_card
from tips_bench.catalog import shipped_card_files
from tips_bench.cli.app import app
from tips_bench.data.croissant import CONFORMS_TO, croissant

TASKS = list(shipped_card_files("task"))


@pytest.mark.parametrize("task", TASKS)
def test_it_says_what_the_card_says(task: str) -> None:
    card = load_card("task", task)
    found = croissant(card)
    assert found["conformsTo"] == CONFORMS_TO and found["@type"] == "sc:Dataset"
    assert (found["name"], found["license"], found["citeAs"]) == (task, card.license, card.citation)
    assert found.get("url", "") == card.homepage
    assert all(split in found["description"] for split in card.data.splits.values())
    hashed = [one for one in card.data.download if one.sha256 or one.md5]
    assert [(one["contentUrl"], one.get("sha256"), one.get("md5")) for one in found["distribution"]] == [
        (one.url, one.sha256, one.md5) for one in hashed
    ]
    names = [one["@id"] for one in found["distribution"]]
    assert len(names) == len(set(names))


def test_the_command_prints_it_as_json() -> None:
    done = CliRunner().invoke(app, ["data", "croissant", "ade20k"])
    assert done.exit_code == 0 and json.loads(done.stdout) == croissant(load_card("task", "ade20k"))
    assert CliRunner().invoke(app, ["data", "croissant", "ade2k"]).exit_code == 2


@pytest.mark.filterwarnings("ignore")  # of the packages that the checker rests on
def test_croissants_own_checker_accepts_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    import mlcroissant

    for task in TASKS:
        file = tmp_path / f"{task}.json"
        file.write_text(json.dumps(croissant(load_card("task", task))), encoding="utf-8")
        read = mlcroissant.Dataset(str(file))
        assert not read.metadata.ctx.issues.errors, task
        assert read.metadata.name == task
