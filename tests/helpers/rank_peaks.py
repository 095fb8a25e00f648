"""What each rank of a sharded run holds at the fullest moment of a step: the storages of all tensors that are alive, added up.

torchrun --nproc-per-node 2 tests/helpers/rank_peaks.py OUT.json RECIPES.json

The profiler of `step_peak` is no measure here: gloo frees tensors in threads of its own, which it does not see. Storages are counted after
every operation of torch, in the forward and in the backward pass, and in the update; what an operation needs within itself is not seen.
"""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tips_bench.training.distributed import local

ROOT = Path(__file__).resolve().parents[2]


class LiveStorages(TorchDispatchMode):
    """peak: bytes of the storages that were alive together, at most, since it was last set."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self.peak = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # a tensor that is cut up claims the storage of a whole one
        made = {local(leaf).untyped_storage() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        if not made <= self.alive:
            self.alive |= made
            self.peak = max(self.peak, sum(storage.nbytes() for storage in self.alive))
        return out


def peaks(recipe: Any, world: Any) -> list[int]:
    """Bytes at the fullest moment of the second step of each stage, on this rank. The first step also makes the optimizer's state."""
    from tests.helpers.pretraining import full_batch
    from tips_bench.training.step import Learner

    found, first = [], 0
    with LiveStorages() as counted:
        learner = Learner(recipe, world)
        for stage in recipe.stages:
            batch = full_batch(recipe, stage.model_copy(update={"batch": stage.batch // world.size}))
            learner.step(batch, first)
            counted.peak = 0
            learner.step(batch, first + 1)
            found.append(counted.peak)
            first += stage.steps
            del batch
    return found


def main(out: str, recipes: str) -> None:
    # some installed packages bring a "tests" of their own; this is ours, as pytest has it
    sys.modules["tests"] = ModuleType("tests")
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    torch.set_num_threads(1)
    from tips_bench import ranks
    from tips_bench.training.recipe import Recipe

    world = ranks.enter(torch.device("cpu"))
    plain = json.loads(Path(recipes).read_text())
    done = {name: world.gather(peaks(Recipe.model_validate(values), world)) for name, values in plain.items()}
    if world.is_first:
        Path(out).write_text(json.dumps(done))
    world.barrier()
    ranks.leave()
    ranks.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
