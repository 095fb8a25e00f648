"""How long would 100 encoders x 40 tasks take on 64 GPUs, and how does that grow? The project's own plan, scheduled; nothing is measured.

    python -m benchmarks.simulate_matrix [--peak 989e12] [--share 0.4]

Prints the table of docs/scale.md, where the assumptions are listed. One line of it is the base; each of the others changes one thing.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from tips_bench.cards import ModelCard, ProtocolCard, TaskCard, load_card
from tips_bench.catalog import card_files
from tips_bench.evaluation.estimate import Estimate, estimate
from tips_bench.evaluation.sharing import job_key
from tips_bench.evaluation.spec import Spec
from tips_bench.registry import FAMILIES

PEAK, SHARE = 989e12, 0.4
DTYPE = "bf16"
COLUMNS = ["what is changed", "evaluations", "jobs", "images, one by one", "images, shared", "GPU hours"]
COLUMNS += ["start to end", "longest job", "idle", "features"]


@dataclass(frozen=True)
class Case:
    """A line of the table. images: times those of each data set. protocols: of each task. ranks: GPUs of a job."""

    name: str
    encoders: int = 100
    tasks: int = 40
    protocols: int = 1
    images: int = 1
    gpus: int = 64
    ranks: int = 1


BASE = Case("**100 encoders, 40 tasks, 64 GPUs**")
CASES = [
    BASE,
    replace(BASE, name="10 encoders", encoders=10),
    replace(BASE, name="30 encoders", encoders=30),
    replace(BASE, name="300 encoders", encoders=300),
    replace(BASE, name="10 times the images", images=10),
    replace(BASE, name="100 times the images", images=100),
    replace(BASE, name="8 GPUs", gpus=8),
    replace(BASE, name="512 GPUs", gpus=512),
    replace(BASE, name="8 ranks a job", ranks=8),
    replace(BASE, name="512 GPUs, 8 ranks a job", gpus=512, ranks=8),
    replace(BASE, name="50 encoders, up to 3 protocols a task", encoders=50, protocols=3),
]


@dataclass(frozen=True)
class Work:
    """Of one encoder. jobs: operations of each. alone, shared: images, crops and windows. disk: bytes of features that are shared."""

    evaluations: int
    jobs: tuple[float, ...]
    alone: int
    shared: int
    disk: int


@cache
def encoders() -> list[str]:
    """Model cards of real size."""
    return [name for name in card_files("model") if (load_card("model", name).parameters or 0) > 1e7]


@cache
def tasks(number: int) -> tuple[str, ...]:
    """So many tasks on real data: one of each family in turn, so that no family is left out."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in card_files("task"):
        card = load_card("task", name)
        if card.data.generator is None:
            families[card.family].append(name)
    turns = itertools.zip_longest(*families.values())
    return tuple(itertools.islice((name for turn in turns for name in turn if name), number))


def operations(model: ModelCard, found: Estimate) -> float:
    """Of what is left of an evaluation: products with the weights, and of tokens with each other in attention."""
    total = 0.0
    for (height, width), number in found.sizes.items():
        patches = math.ceil(height / model.patch_size) * math.ceil(width / model.patch_size)
        weights, attention = 2 * (model.parameters or 0) * patches, 4 * patches**2 * model.embed_dim * model.depth
        total += number * (weights + attention)
    return total


@cache
def cards_of(name: str, protocols: int, images: int) -> list[tuple[TaskCard, ProtocolCard]]:
    """A task under its own protocol and the next ones of its list."""
    task = load_card("task", name)
    names = list(dict.fromkeys([task.protocol, *task.protocols]))[:protocols]
    larger = _larger(task, images) if images > 1 else task
    return [(larger, load_card("protocol", protocol).for_task(name)) for protocol in names]


def can(spec: Spec) -> bool:
    """Whether the model has what the evaluation needs: a text tower, a released head."""
    if spec.takes_released_head and spec.task.family not in spec.model.heads:
        return False
    return spec.model.has_text or not FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied).needs_text


def _larger(card: TaskCard, times: int) -> TaskCard:
    """The task with so many times the images."""
    data = card.data
    expected = {split: times * (max(number) if isinstance(number, list) else number) for split, number in data.expected.items()}
    images = {split: times * number for split, number in data.images.items()}
    parts = {split: {part: times * number for part, number in own.items()} for split, own in data.parts.items()}
    return card.model_copy(update={"data": data.model_copy(update={"expected": expected, "images": images, "parts": parts})})


@cache
def work(name: str, named: tuple[str, ...], protocols: int, images: int) -> Work:
    """Of one encoder on these tasks."""
    model = load_card("model", name)
    pairs = [pair for task in named for pair in cards_of(task, protocols, images)]
    specs = [spec for task, protocol in pairs if can(spec := Spec(task, model, protocol, None, None, []))]
    jobs: dict[tuple[str, ...], float] = defaultdict(float)
    found = estimate(specs, DTYPE)
    for one in found:
        jobs[job_key(one.spec)] += operations(model, one)
    alone, shared, disk = (sum(getattr(one, kind) for one in found) for kind in ("alone", "shared", "disk"))
    return Work(len(specs), tuple(jobs.values()), alone, shared, disk)


def scheduled(jobs: Sequence[float], at_once: int) -> float:
    """Seconds from start to end, as the executors do it: in their order, each on what is free first."""
    free = [0.0] * at_once
    for job in jobs:
        heapq.heappush(free, heapq.heappop(free) + job)
    return max(free)


def row(case: Case, rate: float) -> str:
    """A line of the table. rate: operations a second of one GPU."""
    names, named = encoders(), tasks(case.tasks)
    chosen = [names[number * len(names) // case.encoders] for number in range(case.encoders)]  # evenly; some twice where they are too few
    works = [work(name, named, case.protocols, case.images) for name in chosen]
    jobs = [job / rate / case.ranks for one in works for job in one.jobs]
    whole = scheduled(jobs, case.gpus // case.ranks)
    gpu_hours = sum(jobs) * case.ranks / 3600
    cells = [
        case.name,
        f"{sum(one.evaluations for one in works):,}",
        f"{len(jobs):,}",
        f"{sum(one.alone for one in works) / 1e9:,.2f} billion",
        f"{sum(one.shared for one in works) / 1e9:,.2f} billion",
        f"{gpu_hours:,.0f}",
        f"{whole / 3600:,.1f} h",
        f"{max(jobs) / 3600:,.1f} h",
        f"{1 - gpu_hours * 3600 / whole / case.gpus:.0%}",
        f"{sum(one.disk for one in works) / 1e12:,.1f} TB",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peak", type=float, default=PEAK, help="operations a second of a GPU")
    parser.add_argument("--share", type=float, default=SHARE, help="of the peak that encoders reach")
    given = parser.parse_args()
    print(f"{len(encoders())} model cards; tasks: {', '.join(tasks(BASE.tasks))}\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for case in CASES:
        print(row(case, given.peak * given.share), flush=True)


if __name__ == "__main__":
    main()
