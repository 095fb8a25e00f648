"""`run --dry-run` in a folder with records and with a cache: it plans what the same command would still do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app

TINY = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6", "frames_per_scene=2")]
CHANGED = [word for change in (*TINY, "image.short_side=56") for word in ("--set", change)]
SETTINGS = ("--model", "tips-nano", "--device", "cpu", "--workers", "0", "--cache", *CHANGED)


def run(task: str, *more: str) -> str:
    done = CliRunner().invoke(app, ["run", "--task", task, *SETTINGS, *more], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def planned(*more: str) -> list[tuple[Any, ...]]:
    rows = json.loads(run("rooms-seg,rooms-depth", "--dry-run", "--json", *more))
    return [(row["state"], row["job"], row["images"], row["shared"]) for row in rows]


def test_a_plan_leaves_out_what_has_a_record_and_what_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # no git: its uncommitted changes would have everything scored again
    cache, out = tmp_path / "cache", tmp_path / "out"
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(cache))
    here, local = ("--out", str(out)), ("--on", "local")
    assert planned(*here, *local) == [("left", 1, 14, 14), ("left", 1, 14, 0)]
    run("rooms-seg", *here)
    assert planned(*here, *local) == [("done", None, 14, 0), ("left", 1, 14, 0)], "both read the same features"
    said = run("rooms-seg,rooms-depth", "--dry-run", *here)
    assert "1 done, 1 left." in said and said.splitlines()[-5].split() == ["all", "28", "0", "0.0"]
    assert planned("--rerun", *here) == planned("--out", str(tmp_path / "other")) == [("left", None, 14, 0), ("left", None, 14, 0)]
    for index in cache.glob("features/*/part-*.index"):
        index.unlink()
    assert planned(*here) == [("done", None, 14, 0), ("left", None, 14, 14)], "what was pruned is made anew"
