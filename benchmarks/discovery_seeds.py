"""Object discovery on rooms of several seeds: tips-nano beside its random twin, by a paired test over all rooms.

    .venv/bin/python -m benchmarks.discovery_seeds --out FOLDER [--seeds 5] [--images 240]

Each seed has rooms of its own, as `rooms-discovery` has those of seed 0. `images`: of each seed, four a room. A run that was ended is taken
up again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tips_bench.evaluation.run import evaluate
from tips_bench.metrics.discovery import DiscoveryCounts
from tips_bench.results.counts import load_scored
from tips_bench.results.statistics import differences

TASK, MODELS = "rooms-discovery", ("tips-nano-random", "tips-nano")
PROTOCOLS = ("lost", "tokencut", "lost-patches", "tokencut-dinov3")


def counts_of(protocol: str, seed: int, images: int, out: Path) -> tuple[np.ndarray, list[str]]:
    """(counts of both models on the close-ups of a seed [N,2,...], the room of each)."""
    changes = [f"task.data.generator_options.{name}={value}" for name, value in (("seed", seed), ("val", images))]
    options = {"data_root": out / f"data-{seed}", "out": out / f"records-{seed}", "overrides": changes, "cache": True}
    both = [load_scored(evaluate(TASK, model, protocol, **options)).counts for model in MODELS]
    return np.stack([one.counts_N for one in both], 1), [f"{seed}/{room}" for room in both[0].groups]


def main() -> None:
    """Print CorLoc of each seed and of all, and the difference of both models with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=240)
    asked = parser.parse_args()
    for protocol in PROTOCOLS:
        seeds = [counts_of(protocol, seed, asked.images, asked.out) for seed in range(asked.seeds)]
        each = [DiscoveryCounts.summary(counts_N2.sum(0))["CorLoc"] for counts_N2, _ in seeds]
        counts_N2, groups = np.concatenate([counts for counts, _ in seeds]), [room for _, rooms in seeds for room in rooms]
        found = differences(counts_N2, groups, DiscoveryCounts.summary)["CorLoc"]
        low, high = found.interval or (np.nan, np.nan)
        print(f"{protocol}: {len(groups)} close-ups of {len(set(groups))} rooms")
        print("  each seed, random twin and tips-nano: " + ", ".join(f"{random:.1f} {nano:.1f}" for random, nano in each))
        difference = f"difference {found.value:+.2f} [{low:+.2f}, {high:+.2f}], p = {found.p:.4f}"
        print(f"  all: random twin {found.a:.2f} %, tips-nano {found.b:.2f} %, {difference}", flush=True)


if __name__ == "__main__":
    main()
