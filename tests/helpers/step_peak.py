"""What integration/test_training_estimate.py runs in a process of its own: one step of each stage, and the peak of memory.

python tests/helpers/step_peak.py RECIPE ASSIGNMENTS.json    prints [{"real": MB, "estimated": MB}, ...], a stage each
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from types import ModuleType

import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]


def main(name: str, assignments: str) -> None:
    sys.modules["tests"] = ModuleType("tests")  # some installed packages bring one of their own
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    from tests.helpers.pretraining import ALONE, full_batch
    from tips_bench.memory import peak_memory_mb, reset_peak_memory
    from tips_bench.training.estimate import estimate
    from tips_bench.training.recipe_files import load_recipe
    from tips_bench.training.step import Learner

    torch.set_num_threads(1)
    recipe = load_recipe(name, json.loads(Path(assignments).read_text()))
    alone = recipe.model_copy(update={"running": recipe.running.model_copy(update={"micro_batch": None})})
    small = recipe.stages[0].model_copy(update={"batch": 1})
    Learner(alone, ALONE).step(full_batch(recipe, small), 0)  # what libraries take at first use is there before
    gc.collect()
    before, found, first = psutil.Process().memory_info().rss / 1e6, [], 0
    learner = Learner(recipe, ALONE)
    for stage, wanted in zip(recipe.stages, estimate(recipe, 1, fused_attention=recipe.running.precision == "fp32"), strict=True):
        reset_peak_memory()
        learner.step(full_batch(recipe, stage), first)
        found.append({"real": peak_memory_mb() - before, "estimated": wanted.peak / 1e6})
        first += stage.steps
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
