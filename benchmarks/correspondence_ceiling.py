"""What a grid of patches allows on rooms-views: features that tell where in the room a patch lies, and features that tell nothing.

    .venv/bin/python -m benchmarks.correspondence_ceiling [--pairs N]

A perfect encoder's patch is the mean over its points of random Fourier features of their places in the room, whose products fall with the
distance as a Gaussian of 0.3 m does. It is matched as protocol views-224 does it, with patches of 14 and of 7 pixels. Chance is
a random vector for each patch.

Axes: h w token grid, D feature, H W grid of points.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.adapters.view_matching import within
from tips_bench.cards import load_card
from tips_bench.data.pairs import ViewPair
from tips_bench.data.view_geometry import match_errors
from tips_bench.evaluation.run import data_folder
from tips_bench.evaluation.spec import resolve
from tips_bench.features.view_matching import match_views
from tips_bench.metrics.matches import ViewCounts, count
from tips_bench.registry import READERS

DIM, WIDTH = 1024, 0.3
SHOWN = ("recall@5cm", "recall@20px", "recall@40px", "recall@80px")
Features = Callable[[np.ndarray, tuple[int, int]], Tensor]


def perfect(places_HW3: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """[h,w,D] of the places in the room that a view's points have; z = 0 of a point that is not known counts for nothing."""
    generator = torch.Generator().manual_seed(0)
    waves_3D = torch.randn(3, DIM // 2, generator=generator, dtype=torch.float64) / WIDTH
    turns_HWd = torch.from_numpy(places_HW3) @ waves_3D
    features_DHW = torch.cat([turns_HWd.cos(), turns_HWd.sin()], -1).permute(2, 0, 1)
    return F.interpolate(features_DHW[None], grid, mode="area")[0].permute(1, 2, 0).float()


def chance(places_HW3: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Independent features."""
    seed = int(abs(places_HW3).sum() * 1e6) % (1 << 31)
    return torch.randn(*grid, DIM, generator=torch.Generator().manual_seed(seed))


def recall(pair: ViewPair, features: Features, grid: tuple[int, int]) -> np.ndarray:
    """The counts of a pair."""
    first_HW3, second_HW3 = pair.points_2HW3
    back_33, shift_3 = pair.move_44[:3, :3], pair.move_44[:3, 3]
    places = first_HW3, (second_HW3 - shift_3) @ back_33  # both in the first camera's frame
    maps = [features(places_HW3, grid) for places_HW3 in places]
    known_2HW = torch.from_numpy(pair.points_2HW3[..., 2] > 0)
    found = match_views(maps[0], maps[1], known_2HW, 1000, kind="bilinear")
    points = [view_HW3.reshape(-1, 3)[k] for view_HW3, k in zip(pair.points_2HW3, (found.first_k, found.second_k), strict=True)]
    return count(within(*match_errors(*points, pair.move_44, pair.focal)), pair.kind, 4)


def main() -> None:
    """Print recall of perfect features and of chance."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    data = load_card("task", "rooms-views").data
    spec = resolve("rooms-views", "tips-nano", "views-224", overrides=[], weights=None, limit=None)
    reader = READERS.get(data.reader)(data_folder(spec, options.data), "test", **data.options)
    indices = range(len(reader))[: options.pairs]
    print(f"{len(indices)} pairs of rooms-views")
    for name, features, patch in (("perfect", perfect, 14), ("perfect", perfect, 7), ("chance", chance, 14)):
        counts = ViewCounts.for_classes(reader.classes)
        for index in indices:
            grid = 224 // patch, 299 // patch
            counts.update(reader.ids[index], reader.groups[index], recall(reader.load(index), features, grid))
        values = counts.compute()
        print(f"{name}, patches of {patch} px: " + ", ".join(f"{metric} {float(values[metric]):.1f}" for metric in SHOWN), flush=True)


if __name__ == "__main__":
    main()
