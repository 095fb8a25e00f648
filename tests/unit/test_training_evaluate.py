"""The command that an evaluation on the way is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tips_bench.cli.train import evaluate
from tips_bench.training.recipe_beside import EvaluationPart


@pytest.mark.parametrize(
    ("world", "part", "device"),
    [
        ("1", {}, None),
        ("8", {}, "cpu"),
        ("8", {"device": "cuda:1"}, "cuda:1"),
        ("8", {"launch": "srun --gpus 1"}, None),
    ],
)
def test_an_evaluation_beside_several_ranks_leaves_them_their_gpus(
    monkeypatch: pytest.MonkeyPatch, world: str, part: dict[str, Any], device: str | None
) -> None:
    asked: list[str] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.extend(command)
        assert "WORLD_SIZE" not in options["env"]
        return SimpleNamespace(returncode=0, stdout=json.dumps([{"metrics": {"mIoU": {"value": 1.5}}}]), stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert evaluate(EvaluationPart(every=1, task="rooms-seg", **part), Path("model"), Path("out")) == {"mIoU": 1.5}
    assert [word for word in asked if word.startswith("--device")] == ([] if device is None else [f"--device={device}"])
