"""Points of two views matched: this project beside Probe3D's own code, on the same features in one run.

    .venv/bin/python benchmarks/bench_correspondence.py [--probe3d FOLDER] [--rounds 3]

FOLDER is a checkout of mbanani/probe3d; its evals/utils/correspondence.py is loaded from there, with an exact blocked search in torch in
place of faiss's search on a GPU, which it asks for when it is imported. Without a checkout the same search on features that are enlarged as
a whole stands for it. Both match 128 x 128 points by maps of 32 x 32 patches of 768 features, as in the protocol views-probe3d-navi.
Seconds are the processor's, of all threads, which other work on the machine changes least; the best of interleaved rounds counts.
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

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.features.view_matching import match_views
from tips_bench.memory import peak_memory_mb

MATCHES = 1000
BLOCK = 1024


class Flat:
    """What correspondence.py uses of faiss: exact search by squared distance."""

    def __init__(self, resources: Any, dim: int) -> None:
        self.rows_KD = torch.empty(0, dim)

    def add(self, rows_KD: Tensor) -> None:
        """The rows that are searched."""
        self.rows_KD = rows_KD

    def search(self, queries_QD: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(distances [Q,k], rows [Q,k])."""
        lengths_K = self.rows_KD.square().sum(1)
        found = [(lengths_K - 2 * part_qD @ self.rows_KD.T).topk(k, 1, largest=False) for part_qD in queries_QD.split(BLOCK)]
        return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def theirs(folder: Path) -> Callable[..., Any]:
    """`estimate_correspondence_xyz` of a checkout."""
    faiss = ModuleType("faiss")
    faiss.StandardGpuResources, faiss.GpuIndexFlatL2 = (lambda: None), Flat  # type: ignore[attr-defined]
    faiss.contrib = ModuleType("faiss.contrib")  # type: ignore[attr-defined]
    modules = {"faiss": faiss, "faiss.contrib": faiss.contrib, "faiss.contrib.torch_utils": ModuleType("faiss.contrib.torch_utils")}
    sys.modules.update(modules)
    spec = importlib.util.spec_from_file_location("probe3d_correspondence", folder / "evals/utils/correspondence.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.estimate_correspondence_xyz


def plain(first_Dhw: Tensor, second_Dhw: Tensor, first_3HW: Tensor, second_3HW: Tensor, matches: int) -> tuple[Tensor, Tensor]:
    """The same with whole enlarged maps."""
    both = []
    for map_Dhw, points_3HW in ((first_Dhw, first_3HW), (second_Dhw, second_3HW)):
        wide_DHW = F.interpolate(map_Dhw[None], points_3HW.shape[1:], mode="bicubic")[0]
        both.append(F.normalize(wide_DHW.permute(1, 2, 0)[points_3HW[2] > 0], dim=-1))
    search = Flat(None, both[0].shape[1])
    search.add(both[1])
    _, rows_N2 = search.search(both[0], 2)
    distances_N2 = (1 - (both[1][rows_N2] * both[0][:, None]).sum(-1)).clamp(min=1e-9)
    order_k = (1 - distances_N2[:, 0] / distances_N2[:, 1]).topk(matches).indices
    return first_3HW.permute(1, 2, 0)[first_3HW[2] > 0][order_k], second_3HW.permute(1, 2, 0)[second_3HW[2] > 0][rows_N2[order_k, 0]]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds of the processor, the result)."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


def main() -> None:
    """Print seconds of both, their ratio, and the share of matches that are the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe3d", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    other, name = (plain, "whole maps") if options.probe3d is None else (theirs(options.probe3d), "probe3d")
    generator = torch.Generator().manual_seed(0)
    print(f"{torch.get_num_threads()} threads; seconds of the processor for a pair, the best of {options.rounds}")
    for share in (1.0, 0.5, 0.25):
        maps_2hwD = torch.randn(2, 32, 32, 768, generator=generator)
        points_23HW = torch.rand(2, 3, 128, 128, generator=generator) + 0.1
        points_23HW[:, 2] *= torch.rand(2, 128, 128, generator=generator) < share
        own = partial(match_views, *maps_2hwD, points_23HW[:, 2] > 0, MATCHES)
        their = partial(other, *maps_2hwD.permute(0, 3, 1, 2), *points_23HW, MATCHES)
        rounds = [(timed(own), timed(their)) for _ in range(options.rounds)]
        own_s, other_s = (min(pair[side][0] for pair in rounds) for side in (0, 1))
        (_, found), (_, expected) = rounds[0]
        mine = points_23HW[0].permute(1, 2, 0).flatten(0, 1)[found.first_k]
        same = len(set(map(tuple, mine.tolist())) & set(map(tuple, expected[0].tolist()))) / MATCHES
        print(f"{share:4.0%} of points: {own_s:.2f} s, {name} {other_s:.2f} s, ratio {other_s / own_s:.1f}; {same:.1%} of points the same")
    print(f"peak memory of both: {peak_memory_mb('cpu'):.0f} MB")


if __name__ == "__main__":
    main()
