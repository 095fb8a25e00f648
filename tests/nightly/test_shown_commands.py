"""The commands of README.md, docs/ and examples/: each that can be done offline in a minute or two ends with status 0, as it stands there.

What a page takes for granted lies where it says: records, a model, shards, a run, the reader's own encoder. A run whose data or weights are
not here is planned. `-s` prints how many commands are done, by which test, how many are planned, and why the others are only read
(tests/contract/test_docs.py reads all of them).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.contract.test_docs import COMMANDS, ROOT
from tests.helpers.commands import Shown
from tests.helpers.followable import FOLLOWED, can_be_planned, why_not
from tests.helpers.results_sets import write_record
from tips_bench.catalog import shipped
from tips_bench.cli.app import app

MINE = """import torch
from torch import nn


class Mine(nn.Module):
    def forward(self, pixels):
        return nn.functional.avg_pool2d(pixels, 16)


def build():
    return Mine()
"""
FINER = "import torch.nn.functional as F\n\n\ndef up(image, features, size):\n    return F.interpolate(features, size, mode='bicubic')\n"
FOLDERS = {"results/new", "baselines", "results/monday", "results/tuesday"}
TRAIN = [
    *("train", "tips-nano", "--out", "runs/tips-nano", "--set", "data.shards=raw/train-*.tar", "--set", "data.shuffle=16"),
    *("--set", "data.workers=0", "--set", "data.tokenizer.train_on=40", "--set", "model.text.vocab_size=300"),
    *("--set", "stages.0.steps=4", "--set", "stages.0.batch=8", "--set", "stages.1.steps=2", "--set", "stages.1.batch=8"),
    *("--set", "stages.0.warmup=1", "--set", "stages.1.warmup=1", "--set", "running.precision=fp32", "--set", "running.text_groups=1"),
]


def followed(shown: Shown) -> str | None:
    """The test that does the commands of a page in their order; None: none does."""
    place = shown.page.relative_to(ROOT).as_posix()
    return next((test for part, test in FOLLOWED.items() if place.startswith(part)), None)


DONE = {shown.text: shown for shown in COMMANDS if not followed(shown) and why_not(shown) is None}
PLANNED = {shown.text: shown for shown in COMMANDS if not followed(shown) and can_be_planned(shown)}


def call(folder: Path, cache: Path, command: list[str] | str) -> str:
    """Do it in a folder with this interpreter's tips-bench; what it printed."""
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-c", command] if isinstance(command, str) else [sys.executable, "-m", "tips_bench", *command]
    environment = {**os.environ, "PATH": own, "PYTHONPATH": str(ROOT), "TIPS_BENCH_CACHE": str(cache)}
    environment.pop("TIPS_BENCH_DATA", None)
    done = subprocess.run(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, readers_cache: Path) -> Path:
    """What lies in a reader's folder for every command."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "mine.py").write_text(MINE)
    (folder / "finer.py").write_text(FINER)
    shutil.copytree(ROOT / "examples" / "own_data", folder, dirs_exist_ok=True)
    shutil.copy(ROOT / "examples" / "own_encoder" / "my_encoder.py", folder)
    call(folder, readers_cache, "python draw_shapes.py")
    call(folder, readers_cache, ["data", "rooms", "data/mine", "--train", "8", "--val", "6", "--size", "112", "--frames-per-scene", "1"])
    call(folder, readers_cache, ["init", "task", "data/mine"])
    call(folder, readers_cache, ["data", "rooms", "raw", "--layout", "webdataset", "--train", "48", "--val", "8", "--size", "64"])
    call(folder, readers_cache, TRAIN)
    tasks = ["--task", "rooms-seg,rooms-seg+fog-3", "--model", "tips-nano,pixels"]
    call(folder, readers_cache, ["run", *tasks, "--limit", "12", "--on", "local", "--jobs", "1"])
    return folder


def put_what_is_named(words: tuple[str, ...], folder: Path) -> None:
    """The models and records that a command names: records are drawn, but for `reproduce` one of the run."""
    for number, word in enumerate(words):
        target, quality = folder / word, 0.9 - 0.1 * number  # what is named first, as new records are, is the better one
        if word.startswith("./"):
            shutil.copytree(shipped("model_zoo") / "tips-nano", target)
        elif word in ("submission/", "accepted/"):
            shutil.copytree(ROOT / "leaderboards" / "baseline", target)
        elif word.rstrip("/") in FOLDERS:
            write_record(target, "tips-b14", quality)
        elif word.startswith("results/") and word.endswith(".json"):
            task, model = target.parent.parent.name, target.parent.name
            if task not in ("ade20k", "rooms-seg"):
                task, model = "rooms-seg", "tips-b14"
            path = write_record(folder / "drawn", model, quality, task=task, seed=number)
            if words[0] == "reproduce":
                path = next((folder / "results" / "rooms-seg" / "tips-nano").glob("*.json"))
            if path.parent != target.parent:
                shutil.copytree(path.parent, target.parent, dirs_exist_ok=True)
            (target.parent / path.name).rename(target)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("text", DONE)
def test_a_command_does_what_its_page_says(place: Path, readers_cache: Path, text: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(place, tmp_path / "reader"))
    put_what_is_named(DONE[text].words, folder)
    call(folder, readers_cache, text)


@pytest.mark.nightly
@pytest.mark.parametrize("text", PLANNED)
def test_a_run_without_its_data_here_can_be_planned(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    shutil.copytree(shipped("model_zoo") / "tips-nano", tmp_path / "my-export")
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, [*PLANNED[text].words, "--dry-run"])
    assert said.exit_code == 0 and "images: through the backbone" in said.stdout, said.output


@pytest.mark.nightly
def test_how_many_commands_are_done() -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    planned = {True: f"{here}, planned", False: None}
    found = Counter(followed(shown) or planned[can_be_planned(shown)] or why_not(shown) or here for shown in COMMANDS)
    print(f"\n{len(COMMANDS)} commands in {len({shown.page for shown in COMMANDS})} pages")
    for what, number in found.most_common():
        print(f"{number:5}  {what}")
    assert sum(found.values()) == len(COMMANDS)
