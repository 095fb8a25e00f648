"""The memory that a recipe is said to need, beside the peaks of processes that train it, made small, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAD = "{prototypes: 1024, layers: 3, hidden_dim: 512, bottleneck_dim: 64}"
STAGES = ["steps=4", "warmup=1"]
SMALL = [
    "data.shards=none",
    "model.vision={embed_dim: 128, depth: 4, num_heads: 2, mlp_dim: 344, position_grid: [16, 16]}",
    "model.text={embed_dim: 128, depth: 2, num_heads: 2, mlp_dim: 512, vocab_size: 1000}",
    "model.dropout.text=0",
    f"method.self_distillation.head={HEAD}",
    f"method.patches.head={HEAD}",
    *(f"stages.{stage}.{value}" for stage in (0, 1) for value in STAGES),
    "stages.0.batch=12",
    "stages.1.batch=3",
]


@pytest.mark.nightly
@pytest.mark.parametrize("running", ["{precision: fp32}", "{precision: bf16}"])
@pytest.mark.parametrize("recipe", ["tipsv2-g14"])
def test_a_process_takes_the_memory_that_is_said(recipe: str, running: str, tmp_path: Path) -> None:
    """At 224 and at 448 pixels, within 15 %. With activation checkpointing the formula is farther off: docs/training.md says how far."""
    (tmp_path / "sets.json").write_text(json.dumps([*SMALL, f"running={running}"]))
    command = [sys.executable, ROOT / "tests" / "helpers" / "step_peak.py", recipe, tmp_path / "sets.json"]
    # freed memory goes back at once, as the caching allocator of a GPU would use it again
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    for stage in json.loads(done.stdout):
        assert stage["estimated"] == pytest.approx(stage["real"], rel=0.15)
