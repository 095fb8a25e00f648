"""How long training waits for a checkpoint: written beside the steps, and written while they wait.

    python benchmarks/bench_checkpoints.py [--recipe tipsv2-s14] [--images 4] [--steps 4]

Steps on noise at the recipe's first resolution, with the contrastive loss alone. Times are wall-clock, all in one process;
look at their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tips_bench.ranks import ALONE
from tips_bench.training.batches import Batch, Texts
from tips_bench.training.checkpoint import alone_on_purpose, tensors_of
from tips_bench.training.checkpoint_writer import CheckpointWriter
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.step import Learner


def timed(do: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def noise(px: int, images: int) -> Batch:
    """Images and two captions of each."""
    ids_BL, paddings_BL = torch.randint(1, 1000, (images, 16)), torch.zeros(images, 16, dtype=torch.int64)
    return Batch(torch.rand(images, 3, px, px), [], [Texts(ids_BL, paddings_BL)] * 2, None, torch.arange(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tipsv2-s14")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the other processor writes
    off = [f"method.{part}=null" for part in ("self_distillation", "patches", "teacher")]
    recipe = load_recipe(options.recipe, [*off, "running={}"])
    learner, batch = Learner(recipe, ALONE), noise(recipe.stages[0].global_px, options.images)
    number = iter(range(1_000_000))

    def step() -> None:
        learner.step(batch, next(number))

    step()
    tensors = tensors_of(learner.student, learner.teacher, learner.optimizer)
    size_mb = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
    with tempfile.TemporaryDirectory() as folder, alone_on_purpose():
        writer = CheckpointWriter(Path(folder), ALONE, 1, lambda step: None)
        writer.begin(tensors, 0, {})  # its memory is taken once
        writer.take(wait=True)
        plain = statistics.median(timed(step) for _ in range(options.steps))
        stalls, beside, waits = [], [], []
        for index in range(3):
            stalls.append(timed(lambda at=index: writer.begin(tensors, 2 * at + 1, {})))  # type: ignore[misc]
            beside.append(timed(step))
            writer.take(wait=True)
            waits.append(timed(lambda at=index: (writer.begin(tensors, 2 * at + 2, {}), writer.take(wait=True))))  # type: ignore[misc]
        writer.close()
    stall, wait = statistics.median(stalls), statistics.median(waits)
    print(f"{options.recipe}: {size_mb:,.0f} MB of weights and optimiser, steps of {options.images} images: {plain:.3f} s")
    slower = statistics.median(beside) / plain
    print(f"written beside the steps: a wait of {stall:.3f} s, {stall / plain:.3f} steps; the step beside it takes {slower:.2f} steps")
    print(f"written while they wait: {wait:.3f} s, {wait / plain:.3f} steps, {wait / stall:.1f} times as long")


if __name__ == "__main__":
    main()
