"""Many linear heads on one backbone pass: the time of S heads over that of one, and against S separate runs.

    python benchmarks/bench_sweep.py [--heads 8] [--classes 150] [--batch 4] [--iterations 3] [--dtype fp32]

Crops are noise of 512 px: the cost does not depend on what they show. The backbone is a ViT-B/14 with random weights.
"""

from __future__ import annotations

import argparse
import time

import torch

from tips_bench.cards import WindowCard
from tips_bench.encoders.load import load_encoder
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.probes.trained.cross_entropy import upsampled_cross_entropy
from tips_bench.probes.trained.head_sweep import GridPoint, HeadSweep, optimizer

SIZE = 512


def seconds_an_iteration(heads: int, classes: int, batch: int, iterations: int, dtype: str) -> float:
    """Of training `heads` heads, backbone included."""
    encoder = load_encoder("tips-b14", "random", dtype=dtype)
    sweep = HeadSweep(heads, encoder.spec.embed_dim, classes, batch_norm=True, dropout=0.0, seed=0)
    adam = optimizer(sweep, [GridPoint(1e-3 * 2**head, 1e-4) for head in range(heads)], (0.9, 0.999))
    pixels_B3HW, labels_BHW = torch.rand(batch, 3, SIZE, SIZE), torch.randint(0, classes, (batch, SIZE, SIZE), dtype=torch.uint8)
    windows = Windows.of((SIZE, SIZE), WindowCard())

    def step(iteration: int) -> None:
        found = encoder.encode_image(pixels_B3HW)
        features_BhwD = found.patches[0].clone()
        upsampling = Upsampling.of(tuple(features_BhwD.shape[1:3]), found.padding, windows, (SIZE, SIZE))
        losses_S = upsampled_cross_entropy(sweep(features_BhwD, iteration), labels_BHW, upsampling)
        adam.zero_grad()
        losses_S.sum().backward()
        adam.step()

    step(0)
    start = time.perf_counter()
    for iteration in range(iterations):
        step(iteration + 1)
    return (time.perf_counter() - start) / iterations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("heads", 8), ("classes", 150), ("batch", 4), ("iterations", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    rest = arguments.classes, arguments.batch, arguments.iterations, arguments.dtype
    one, many = seconds_an_iteration(1, *rest), seconds_an_iteration(arguments.heads, *rest)
    print(f"1 head: {one:.2f} s an iteration of {arguments.batch} crops")
    print(f"{arguments.heads} heads: {many:.2f} s, {many / one:.2f} times one, where separate runs take {arguments.heads} times")


if __name__ == "__main__":
    main()
