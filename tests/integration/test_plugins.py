"""A package of somebody else adds a family, a reader, a probe, a metric, an encoder source and cards; and what becomes of a broken one."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tips_bench.cards import load_card

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "plugins.md"


def write_brightness(folder: Path) -> None:
    """Images of one brightness each, and values.csv."""
    rng, rows = np.random.default_rng(0), []
    for split, number in (("train", 24), ("val", 12)):
        (folder / "images" / split).mkdir(parents=True)
        for index in range(number):
            value = rng.uniform(40, 210)
            pixels_HW3 = np.clip(rng.normal(value, 20, (112, 112, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels_HW3).save(folder / "images" / split / f"{index:03d}.png")
            rows.append((f"{split}/{index:03d}", value))
    with (folder / "values.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_few_rooms(folder: Path) -> None:
    """A card folder in which rooms-seg has few rooms: the page's commands then take seconds."""
    card = load_card("task", "rooms-seg").model_dump(mode="json", exclude_none=True)
    card["data"] |= {"root": "rooms/few", "expected": {"train": 24, "val": 8}}
    card["data"]["generator_options"] |= {"train": 24, "val": 8}
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "rooms-seg.yaml").write_text(yaml.safe_dump(card))


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of the page, as a user types it: `python` is the one that runs the tests."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ours = {**os.environ, "PATH": paths, "TIPS_BENCH_CACHE": str(folder / "cache"), **environment}
    if (folder / "few").is_dir():
        ours["TIPS_BENCH_CARDS"] = str(folder / "few")
    ours.pop("TIPS_BENCH_DATA", None)
    return subprocess.run(["bash", "-c", command], cwd=folder, env=ours, capture_output=True, text=True, check=False, timeout=280)


def commands() -> list[list[str]]:
    """The shell blocks of the page, each a list of lines."""
    return [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, copied as the page says, with data beside it."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "examples").mkdir()
    shutil.copytree(ROOT / "examples" / "plugin", folder / "examples" / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    copy, enter = commands()[0]
    assert copy == "cp -r examples/plugin my-plugin" and enter == "cd my-plugin"
    assert shell(copy, folder).returncode == 0
    write_brightness(folder / "my-plugin" / "data" / "brightness")
    write_few_rooms(folder / "my-plugin" / "few")
    return folder / "my-plugin"


@pytest.fixture(scope="module")
def said(copied: Path) -> dict[str, str]:
    """Each command of the second block, and what it printed."""
    outcomes = {}
    for line in commands()[1]:
        done = shell(line, copied, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, (line, done.stderr)
        outcomes[line] = done.stdout
    return outcomes


def record_of(folder: Path, task: str) -> dict:
    (file,) = (folder / "results" / task).rglob("*.json")
    return json.loads(file.read_text())


def test_the_page_is_followed_word_for_word(said: dict[str, str]) -> None:
    listed, checked, scored, mlp = said.values()
    assert "image-brightness" in listed and "ade20k" in listed
    assert "no fault found" in checked
    assert "MAE" in scored and "mean-color:16" in scored
    assert "mlp" in mlp


def test_a_family_of_a_plugin_has_records_with_intervals_and_compares(copied: Path, said: dict[str, str]) -> None:
    record = record_of(copied, "image-brightness")
    assert record["family"] == "image-value" and record["comparable"]
    assert record["metrics"]["MAE"]["value"] < 5 and record["metrics"]["MAE"]["ci95"] and not record["metrics"]["MAE"]["higher_is_better"]
    (file,) = (copied / "results" / "image-brightness").rglob("*.json")
    found = shell(f"python -m tips_bench --plugin my_plugin compare {file} {file}", copied, PYTHONPATH=str(ROOT))
    assert found.returncode == 0 and "Cannot tell" in found.stdout, found.stderr
    alone = shell(f"python -m tips_bench compare {file} {file}", copied, PYTHONPATH=str(ROOT))
    assert alone.returncode == 2 and "there is no task family named 'image-value'" in alone.stderr


def test_an_own_protocol_and_probe_run_on_a_shipped_task_with_a_metric_beside(copied: Path, said: dict[str, str]) -> None:
    record = record_of(copied, "rooms-seg")
    assert record["protocol"] == "mlp" and record["probe"]["epochs"] == 20
    assert record["beside"] == ["edge-accuracy"] and record["metrics"]["edge accuracy"]["ci95"]
    assert [deviation["key"] for deviation in record["deviations"]] == ["limit"], "the protocol itself is no deviation"
    with np.load(next((copied / "results" / "rooms-seg").rglob("*.npz"))) as counts:
        assert len(counts["edge-accuracy/counts"]) == len(counts["counts"]) == 6


def test_an_installed_plugin_is_found_by_its_entry_point(copied: Path, tmp_path: Path) -> None:
    install, listed = commands()[2]
    done = shell(install, copied, PIP_TARGET=str(tmp_path / "site"), PIP_DISABLE_PIP_VERSION_CHECK="1")
    assert done.returncode == 0, done.stderr
    done = shell(listed, tmp_path, PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path / "site")]))
    assert done.returncode == 0 and "image-brightness" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it has no function register()"),
        ("import no_such_module_here", "cannot be imported: ModuleNotFoundError"),
        ("import os\nos.nothing", "cannot be imported: AttributeError: module 'os' has no attribute 'nothing'"),
        ("def register():\n    1 / 0", "register() failed: ZeroDivisionError"),
        (
            "from tips_bench.registry import READERS\ndef register():\n    READERS.add('ade20k', 'a:b')",
            "there is a reader named 'ade20k' already",
        ),
        ("from tips_bench.plugins import add_cards\ndef register():\n    add_cards('nowhere')", "no such folder of cards"),
    ],
)
def test_a_broken_plugin_is_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text(text)
    done = shell("python -m tips_bench --plugin broken_plugin list tasks", tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert words in done.stderr and "plugin 'broken_plugin'" in done.stderr and len(done.stderr.splitlines()) == 1
