"""Seconds for one object an image, by TokenCut and LOST, beside what their published code does, in one run.

python benchmarks/bench_discovery.py [--lost FOLDER] [--tokencut FOLDER]     FOLDER: a checkout of valeoai/LOST, YangtaoWANG95/TokenCut

Features are blocks of patches and noise, of an image of VOC at patch 16 (30x32 patches) and of one half as large again. Without the
checkouts, what takes TokenCut's time, scipy's full decomposition of the generalized problem, is run as its code calls it.
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

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from tips_bench.features.affinity import unit
from tips_bench.probes.training_free.discovery import lost, tokencut

GRIDS = ((30, 32), (45, 48))
DIM, SEED = 384, 0


def features(grid: tuple[int, int]) -> Tensor:
    """[h,w,D] of four blocks of patches and noise."""
    generator = torch.Generator().manual_seed(SEED)
    blocks = torch.zeros(grid, dtype=torch.long)
    for number in range(1, 4):
        top, left = (int(torch.randint(0, side // 2, (1,), generator=generator)) for side in grid)
        blocks[top : top + grid[0] // 3, left : left + grid[1] // 3] = number
    return torch.randn(4, DIM, generator=generator)[blocks] + 1.5 * torch.randn(*grid, DIM, generator=generator)


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """The median of several runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


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
    asked = parser.parse_args()
    cut = module(asked.tokencut, "their_cut").ncut if asked.tokencut else None
    other = module(asked.lost, "their_lost").lost if asked.lost else None
    for grid in GRIDS:
        map_hwD = features(grid)
        tokens_1ND = torch.cat([torch.zeros(1, 1, DIM), map_hwD.reshape(1, -1, DIM)], 1)  # CLS first
        about = list(grid), [16, 16], (3, grid[0] * 16, grid[1] * 16)
        theirs = partial(plain_cut, map_hwD) if cut is None else partial(cut, tokens_1ND, *about, 0.2, 1e-5)
        report("tokencut", grid, seconds(partial(tokencut, map_hwD, 0.2, 1e-5)), seconds(theirs))
        if other is not None:
            report("lost", grid, seconds(partial(lost, map_hwD, 100), 9), seconds(partial(other, tokens_1ND[:, 1:], *about), 9))


def report(method: str, grid: tuple[int, int], ours: float, theirs: float) -> None:
    """One line."""
    print(f"{method}, {grid[0]}x{grid[1]} patches: {ours:.3f} s, published way {theirs:.3f} s, {theirs / ours:.1f} times")


if __name__ == "__main__":
    main()
