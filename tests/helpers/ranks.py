"""What each process of integration/test_trainer_ranks.py does: steps on its part of fixed batches, then what was learned to a file.

torchrun --nproc-per-node 2 tests/helpers/ranks.py OUT.pt RECIPES.json [STEPS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
STEPS, IMAGES = 3, 8


def learn(recipe: Any, world: Any, steps: int = STEPS) -> dict[str, Any]:
    """Reports of each step, and everything that was learned, put together from all ranks."""
    from tests.helpers.pretraining import random_batch, rows_of
    from tips_bench.training.checkpoint import tensors_of
    from tips_bench.training.distributed import whole
    from tips_bench.training.step import Learner

    learner = Learner(recipe, world)
    share = IMAGES // world.size
    own = slice(world.rank * share, (world.rank + 1) * share)
    table = recipe.model.vision_config.position_grid[0] if recipe.model.positions == "window" else 0
    reports = [learner.step(rows_of(random_batch(IMAGES, seed=step, table=table), own), step) for step in range(steps)]
    tensors = tensors_of(learner.student, learner.teacher, learner.optimizer)
    return {"reports": reports, "tensors": {name: whole(tensor).clone() for name, tensor in tensors.items()}}


def main(out: str, recipes: str, steps: str = str(STEPS)) -> None:
    # some installed packages bring a "tests" of their own; this is ours, as pytest has it
    sys.modules["tests"] = ModuleType("tests")
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    torch.set_num_threads(1)
    from tips_bench import ranks
    from tips_bench.training.recipe import Recipe

    world = ranks.enter(torch.device("cpu"))
    plain = json.loads(Path(recipes).read_text())
    done = {name: learn(Recipe.model_validate(values), world, int(steps)) for name, values in plain.items()}
    if world.is_first:
        torch.save(done, out)
    world.barrier()
    ranks.leave()
    ranks.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
