"""Seconds of the processor for one object an image, by TokenCut and LOST, beside what their published code does, in one run.

python benchmarks/bench_discovery.py [--lost FOLDER] [--tokencut FOLDER]     FOLDER: a checkout of valeoai/LOST, YangtaoWANG95/TokenCut

Features are blocks of patches and noise, of an image of VOC at patch 16 (30x32 patches) and of one half as large again. Without the
checkouts, what takes TokenCut's time, scipy's full decomposition of the generalized problem, is run as its code calls it. The best of
interleaved rounds counts; boxes must be the same. Half of LOST's time is the product of all patches, which no way can be without.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from tips_bench.features.affinity import unit
from tips_bench.probes.training_free.discovery import lost, tokencut

GRIDS = ((30, 32), (45, 48))
DIM, SEED, PATCH = 384, 0, 16


def features(grid: tuple[int, int]) -> Tensor:
    """[h,w,D] of four blocks of patches and noise."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = torch.zeros(grid, dtype=torch.long)
    for number in range(1, 4):
        top, left = (int(torch.randint(0, side // 2, (1,), generator=generator)) for side in grid)
        blocks[top : top + grid[0] // 3, left : left + grid[1] // 3] = number
    return torch.randn(4, DIM, generator=generator)[blocks] + 1.5 * torch.randn(*grid, DIM, generator=generator)


def seconds(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Of both, the best of several interleaved rounds. Errors: boxes that differ."""
    best = [np.inf, np.inf]
    for _ in range(rounds):
        found = []
        for place, work in enumerate((ours, theirs)):
            start = time.process_time()
            found.append(work())
            best[place] = min(best[place], time.process_time() - start)
        box_4, their_box_4 = found[0].box_4 * PATCH, found[1][0]
        if np.ndim(their_box_4) and not np.array_equal(box_4, their_box_4):
            raise SystemExit(f"boxes differ: {box_4} and {their_box_4}")
    return best[0], best[1]


def plain_cut(features_hwD: Tensor) -> np.ndarray:
    """The second eigenvector by a full decomposition, as TokenCut's code calls scipy."""
    features_PD = unit(features_hwD.flatten(0, 1))
    weights_PP = np.where((features_PD @ features_PD.T).numpy() > 0.2, 1.0, 1e-5)
    degrees_PP = np.diag(weights_PP.sum(1))
    return eigh(degrees_PP - weights_PP, degrees_PP, subset_by_index=[1, 2])[1][:, 0]


def module(folder: Path, name: str) -> ModuleType:
    """object_discovery.py of a checkout."""
    stub = ModuleType("datasets")
    stub.bbox_iou = None  # type: ignore[attr-defined]
    sys.modules["datasets"] = stub
    found = importlib.util.spec_from_file_location(name, folder / "object_discovery.py")
    assert found is not None and found.loader is not None
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


def main() -> None:
    """Print a line for each method and grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lost", type=Path)
    parser.add_argument("--tokencut", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    cut = module(asked.tokencut, "their_cut").ncut if asked.tokencut else None
    other = module(asked.lost, "their_lost").lost if asked.lost else None
    for grid in GRIDS:
        map_hwD = features(grid)
        tokens_1ND = torch.cat([torch.zeros(1, 1, DIM), map_hwD.reshape(1, -1, DIM)], 1)  # CLS first
        about = list(grid), [PATCH, PATCH], (3, grid[0] * PATCH, grid[1] * PATCH)
        theirs = partial(plain_cut, map_hwD) if cut is None else partial(cut, tokens_1ND, *about, 0.2, 1e-5)
        report("tokencut", grid, *seconds(partial(tokencut, map_hwD, 0.2, 1e-5), theirs, asked.rounds))
        if other is not None:
            report("lost", grid, *seconds(partial(lost, map_hwD, 100), partial(other, tokens_1ND[:, 1:], *about), 3 * asked.rounds))


def report(method: str, grid: tuple[int, int], ours: float, theirs: float) -> None:
    """One line."""
    print(f"{method}, {grid[0]}x{grid[1]} patches: {ours:.3f} s, published way {theirs:.3f} s, {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
