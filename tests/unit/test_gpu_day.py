"""scripts/gpu_day.sh, which needs GPUs, with programs that only note how they are called."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.contract.test_docs import named_verb
from tests.helpers.commands import own
from tests.helpers.records import record

ROOT = Path(__file__).resolve().parents[2]
STUB = """#!/bin/sh
case "$*" in *device_count*) echo 2; exit ;; esac
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in compare*) exit "$COMPARE" ;; esac
"""


def gpu_day(folder: Path, compare: int = 0) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """How the script ends, and the calls that it makes. compare: how `tips-bench compare` ends."""
    bin = folder / ".venv" / "bin"
    bin.mkdir(parents=True)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "gpu_day.sh", folder / "scripts")
    for name in ("python", "tips-bench", "torchrun", "make", "nvidia-smi"):
        (bin / name).write_text(STUB)
        (bin / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "COMPARE": str(compare)}
    done = subprocess.run(["sh", "scripts/gpu_day.sh"], cwd=folder, env=environment, capture_output=True, text=True)
    return done, [shlex.split(line) for line in (folder / "calls").read_text().splitlines()]


def test_each_step_calls_what_there_is(tmp_path: Path) -> None:
    done, calls = gpu_day(tmp_path)
    assert done.returncode == 0, done.stderr
    verbs = set()
    for call in calls:
        for words in own(call):
            verb, left = named_verb(words)
            verb.make_context("tips-bench", left)
            verbs.add(words[0])
        if call[0] == "python":
            program = (ROOT / call[1]).read_text()
            assert all(f'"{word}"' in program for word in call[2:] if word.startswith("--")), call
    assert verbs == {"bench", "run", "compare", "data", "train"}
    assert [call[1] for call in calls if call[0] == "python"].count("scripts/cost_ratio.py") == 3
    assert any("--device" in call and "cuda" in call for call in calls) and any("local" in call for call in calls)


def test_a_step_that_fails_is_named_and_the_others_run_all_the_same(tmp_path: Path) -> None:
    done, calls = gpu_day(tmp_path, compare=1)
    assert done.returncode == 1 and "gpu_day.sh: failed: compare (see gpu-day)" in done.stderr
    assert "train" in calls[-1]


def cost_ratio(*folders: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "scripts/cost_ratio.py", *map(str, folders)]
    return subprocess.run(program, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_the_costs_of_the_same_evaluation_in_two_folders_are_compared(tmp_path: Path) -> None:
    for folder, wall_s, ranks in (("one", 30.0, 1), ("all", 4.0, 8)):
        found = record("rooms-seg", "tips-nano", "convex")
        found.cost.wall_s, found.cost.images_per_s, found.cost.ranks = wall_s, 12 * ranks, ranks
        found.save(tmp_path / folder / "rooms-seg" / "tips-nano" / "convex-01234567.json")
    done = cost_ratio(tmp_path / "one", tmp_path / "all")
    said = "rooms-seg tips-nano convex: 30.0 s -> 4.0 s, 7.50 times as fast, ranks 1 -> 8, 12.0 -> 96.0 images/s"
    assert done.returncode == 0 and done.stdout.strip() == said, done.stderr
    record("rooms-depth", "tips-nano", "convex").save(tmp_path / "other" / "rooms-depth" / "tips-nano" / "convex-01234567.json")
    assert "no evaluation lies in both" in cost_ratio(tmp_path / "one", tmp_path / "other").stderr
