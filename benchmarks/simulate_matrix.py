"""How long would 100 encoders x 40 tasks take on 64 GPUs? The project's own estimate, scheduled: arithmetic, nothing is measured.

    python -m benchmarks.simulate_matrix [--encoders 100] [--tasks 40] [--gpus 64] [--peak 989e12] [--share 0.4]

An image costs 2 x parameters x patches operations, at `share` of `peak` operations a second. Jobs are the groups of evaluations that
share features; the longest job starts first, on the GPU that is free first.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
from collections import defaultdict

from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.errors import UserError
from tips_bench.evaluation.counting import inner_size
from tips_bench.evaluation.estimate import Estimate, estimate
from tips_bench.evaluation.sharing import images_key
from tips_bench.evaluation.spec import resolve


def seconds(found: Estimate, images: int, rate: float) -> float:
    """Of so many images at `rate` operations a second."""
    model = found.spec.model
    height, width = inner_size(found.spec)
    patches = (height / model.patch_size) * (width / model.patch_size)
    return 2 * (model.parameters or 0) * patches * images / rate


def main() -> None:
    """Print makespan, idle share, cache and what sharing spares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("encoders", 100), ("tasks", 40), ("gpus", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peak", type=float, default=989e12)
    parser.add_argument("--share", type=float, default=0.4)
    given = parser.parse_args()
    rate = given.peak * given.share
    models = [name for name in card_files("model") if (load_card("model", name).parameters or 0) > 1e7]
    tasks = list(itertools.islice((name for name in card_files("task")), given.tasks))
    jobs: list[float] = []
    alone, shared, disk, evaluations = 0.0, 0.0, 0, 0
    for model in itertools.islice(itertools.cycle(models), given.encoders):
        specs = []
        for task in tasks:
            try:
                spec = resolve(task, model)
            except UserError:
                continue  # the protocol needs a head that the model lacks
            specs.append(spec)
        evaluations += len(specs)
        group: dict[tuple[str, ...], float] = defaultdict(float)
        for found in estimate(specs, "bf16"):
            group[images_key(found.spec)] += seconds(found, found.shared, rate)
            alone += seconds(found, found.alone, rate)
            shared += seconds(found, found.shared, rate)
            disk += found.disk
        jobs += group.values()
    free = [0.0] * given.gpus
    for job in sorted(jobs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + job)
    makespan = max(free)
    print(f"{evaluations} evaluations of {given.encoders} encoders in {len(jobs)} jobs on {given.gpus} GPUs")
    print(f"GPU hours {shared / 3600:.0f}, without sharing {alone / 3600:.0f} ({shared / alone:.2f})")
    print(f"makespan {makespan / 3600:.1f} h, idle {1 - sum(jobs) / makespan / given.gpus:.1%}, longest job {max(jobs) / 3600:.1f} h")
    print(f"features that evaluations share: {disk / 1e12:.1f} TB, {disk / given.encoders / 1e9:.0f} GB an encoder")


if __name__ == "__main__":
    main()
