"""What it brings on the CPU to keep freed memory (tips_bench/models/heap.py): a training step, and images through a frozen backbone.

    python -m benchmarks.bench_heap [--recipe tips-nano] [--batch 128] [--px 84] [--model tips-nano] [--rounds 3]

Each measurement has a process of its own on one thread. Rounds take turns, and the fastest counts. Seconds are of the processor, the
system's work included; memory is the resident peak, in which libraries are included.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.bench_training import Measured, by_turns, measure
from tips_bench.encoders import load_encoder
from tips_bench.memory import peak_memory_mb
from tips_bench.models.heap import keep_freed_memory
from tips_bench.training.recipe_files import load_recipe

IMAGES, STEPS = 32, 12


def encode(model: str) -> Measured:
    """IMAGES images of noise through a frozen backbone, at the size that it asks for, in bfloat16."""
    torch.set_num_threads(1)
    encoder = load_encoder(model, device="cpu", dtype="bf16")
    pixels_B3HW = torch.rand(IMAGES, 3, encoder.spec.resolution, encoder.spec.resolution)
    times = []
    for _ in range(STEPS):
        start = time.process_time()
        encoder.encode_image(pixels_B3HW)
        times.append(time.process_time() - start)
    return Measured(min(times[1:]), 0.0, peak_memory_mb())


def kept(work: Callable[..., Measured], *arguments: Any) -> Measured:
    assert keep_freed_memory(), "this system does not take the bounds"
    return work(*arguments)


def given_back(work: Callable[..., Measured], *arguments: Any) -> Measured:
    os.environ["GLIBC_TUNABLES"] = ""  # as a user who sets bounds: ours are not asked for
    return work(*arguments)


def main() -> None:
    """Print both with and without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tips-nano")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--px", type=int, default=84)
    parser.add_argument("--model", default="tips-nano")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    sizes = [f"stages.0.global_px={asked.px}", f"stages.0.local_px={asked.px // 2}", f"stages.0.batch={asked.batch}"]
    step = (measure, load_recipe(asked.recipe, ["data.shards=none", *sizes]), asked.batch, STEPS)
    for name, count, work in (("step", asked.batch, step), ("encode", IMAGES, (encode, asked.model))):
        found = by_turns(asked.rounds, {"kept": (kept, *work), "given back": (given_back, *work)})
        for kind, one in found.items():
            print(f"{name:6} {kind:10} {count / one.seconds:6.1f} images a processor second  {one.resident:5.0f} MB resident")
        ours, others = found["kept"], found["given back"]
        print(
            f"{name:6} {others.seconds / ours.seconds:.2f} times as fast, {ours.resident / others.resident:.2f} times the memory",
            flush=True,
        )


if __name__ == "__main__":
    main()
