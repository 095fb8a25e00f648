"""What a grid of patches allows on generated rooms, and what chance gives: features that know everything, and features that know nothing.

    .venv/bin/python -m benchmarks.correspondence_ceiling [--pairs N]

Of `rooms-views`, matched as protocol views-224 does it:

    perfect     a patch is the mean over its points of random Fourier features of their places in the room, whose products fall with the
                distance as a Gaussian of 0.3 m does; patches of 14 and of 7 pixels
    moved copy  the same features of a view, and of the view moved by a patch
    random      a random vector for each patch

Of `rooms-keypoints`, matched as protocol keypoints-224 does it: random vectors. Chance is what random vectors should reach: any place of
the second image that has a point, or any of its pixels, is as likely an answer as any other. For keypoints it is counted over all pixels,
for views over DRAWS drawn matches of a pair. Random vectors are drawn SEEDS times; their difference from chance has an interval over rooms.

Axes: h w token grid, D feature, H W grid of points or pixels, K points of a pair, A limits, k matches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.adapters.keypoint_matching import KeypointAdapter
from tips_bench.adapters.view_matching import within
from tips_bench.cards import load_card
from tips_bench.data.base import Reader
from tips_bench.data.pairs import KeypointPair, ViewPair
from tips_bench.data.view_geometry import match_errors
from tips_bench.evaluation.spec import resolve
from tips_bench.evaluation.task_data import data_folder
from tips_bench.features.patch_maps import Grid
from tips_bench.features.point_matching import find_points, read_points
from tips_bench.features.view_matching import match_views
from tips_bench.metrics.matches import KeypointCounts, ViewCounts, count
from tips_bench.registry import READERS
from tips_bench.results.statistics import differences

DIM, WIDTH = 1024, 0.3
SIDE, PATCH = 224, 14
SEEDS, DRAWS = 3, 20_000
VIEWS = ("recall@5cm", "recall@20px", "recall@40px", "recall@80px")
KEYPOINTS = ("image PCK@0.05", "image PCK@0.10", "image PCK@0.20")


def perfect(places_HW3: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """[h,w,D] of the places in the room that a view's points have; z = 0 of a point that is not known counts for nothing."""
    generator = torch.Generator().manual_seed(0)
    waves_3D = torch.randn(3, DIM // 2, generator=generator, dtype=torch.float64) / WIDTH
    turns_HWd = torch.from_numpy(places_HW3) @ waves_3D
    features_DHW = torch.cat([turns_HWd.cos(), turns_HWd.sin()], -1).permute(2, 0, 1)
    return F.interpolate(features_DHW[None], grid, mode="area")[0].permute(1, 2, 0).float()


def known_places(pair: ViewPair, grid: tuple[int, int]) -> np.ndarray:
    """The counts of a pair of views by perfect features."""
    first_HW3, second_HW3 = pair.points_2HW3
    back_33, shift_3 = pair.move_44[:3, :3], pair.move_44[:3, 3]
    return matched(pair, [perfect(places_HW3, grid) for places_HW3 in (first_HW3, (second_HW3 - shift_3) @ back_33)])


def moved_copy(pair: ViewPair) -> np.ndarray:
    """The counts of the first view of a pair and the same view moved by a patch of 4 x 4 points."""
    points_HW3, side = pair.points_2HW3[0], 4
    map_hwD = perfect(points_HW3, tuple(length // side for length in points_HW3.shape[:2]))
    both_2HW3 = np.stack([points_HW3[:, side:], points_HW3[:, :-side]])
    return matched(ViewPair("", "", pair.kind, 0, 0, both_2HW3, np.eye(4), pair.focal, 0.0), [map_hwD[:, 1:], map_hwD[:, :-1]])


def random_views(pair: ViewPair, draw: torch.Generator) -> np.ndarray:
    """The counts of a pair of views by a random vector for each patch."""
    return matched(pair, [torch.randn(SIDE // PATCH, 299 // PATCH, DIM, generator=draw) for _ in range(2)])


def matched(pair: ViewPair, maps: Sequence[Tensor]) -> np.ndarray:
    """The counts of a pair of views with these maps."""
    found = match_views(maps[0], maps[1], torch.from_numpy(pair.points_2HW3[..., 2] > 0), 1000, kind="bilinear")
    places = zip(pair.points_2HW3, (found.first_k, found.second_k), strict=True)
    return of_matches(pair, [view_HW3.reshape(-1, 3)[numbers_k] for view_HW3, numbers_k in places])


def drawn_views(pair: ViewPair, draw: np.random.Generator) -> np.ndarray:
    """The counts of a pair of views whose matches join any two points."""
    known = [view_HW3[view_HW3[..., 2] > 0] for view_HW3 in pair.points_2HW3]
    return of_matches(pair, [points_N3[draw.integers(len(points_N3), size=DRAWS)] for points_N3 in known])


def of_matches(pair: ViewPair, points: Sequence[np.ndarray]) -> np.ndarray:
    """The counts of matched points [k,3] of both views."""
    return count(within(*match_errors(*points, pair.move_44, pair.focal)), pair.kind, 4)


def random_keypoints(adapter: KeypointAdapter, pair: KeypointPair, groups: int, draw: torch.Generator) -> np.ndarray:
    """The counts of a pair of photos by a random vector for each patch."""
    grid = Grid((SIDE // PATCH, SIDE // PATCH), pair.size, (SIDE, SIDE), (0, 0), (SIDE, SIDE))  # both images are squares of one size
    first_hwD, second_hwD = torch.randn(2, *grid.hw, DIM, generator=draw)
    queries_KD = read_points(first_hwD, pair.points_2K2[0], grid, adapter.options.reading)
    return count(adapter.within(pair, find_points(queries_KD, second_hwD, grid, adapter.options.answer)), pair.kind, groups)


def any_pixel(adapter: KeypointAdapter, pair: KeypointPair, groups: int) -> np.ndarray:
    """The counts of a pair of photos whose answers are any pixel: each point counts by the share of pixels that would be right."""
    pixels_P2 = np.stack(np.meshgrid(*(np.arange(side) for side in pair.size[::-1])), -1).reshape(-1, 2).astype(np.float64)
    shares = []
    for truth_2 in pair.points_2K2[1]:
        alike = KeypointPair("", "", 0, 0, 0, np.broadcast_to(truth_2, (2, len(pixels_P2), 2)), pair.box, pair.size)
        shares.append(adapter.within(alike, pixels_P2).mean(1))
    return count(np.stack(shares, 1), pair.kind, groups)


def reader_of(task: str, data: Path | None) -> Reader:
    """The test split of a set of rooms."""
    card = load_card("task", task).data
    spec = resolve(task, "tips-nano", None, overrides=[], weights=None, limit=None)
    return READERS.get(card.reader)(data_folder(spec, data), "test", **card.options)


def say(name: str, rows: Sequence[np.ndarray], kind: type[ViewCounts | KeypointCounts], shown: Sequence[str]) -> None:
    """Print a line of metrics."""
    values = kind.summary(np.sum(rows, 0))
    print(f"{name}: " + ", ".join(f"{metric} {float(values[metric]):.2f}" for metric in shown), flush=True)


def beside_chance(
    groups: Sequence[str],
    random: Callable[[int, torch.Generator], np.ndarray],
    chance: Sequence[np.ndarray],
    kind: type[ViewCounts | KeypointCounts],
    shown: Sequence[str],
) -> None:
    """Print random vectors, chance, and their difference with its interval over rooms."""
    draws = [torch.Generator().manual_seed(seed) for seed in range(SEEDS)]
    found = [np.mean([random(number, draw) for draw in draws], 0) for number in range(len(groups))]
    both = differences(np.stack([np.stack(chance), np.stack(found)], 1), groups, kind.summary)
    for metric in shown:
        one = both[metric]
        low, high = one.interval or (np.nan, np.nan)
        print(f"  {metric}: random {one.b:.3f}, chance {one.a:.3f}, difference {one.value:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)


def main() -> None:
    """Print recall of perfect features, of a moved copy, of random vectors, and chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    reader = reader_of("rooms-views", options.data)
    views, groups = [reader.load(index) for index in range(len(reader))[: options.pairs]], reader.groups[: options.pairs]
    print(f"{len(views)} pairs of rooms-views")
    for patch in (PATCH, PATCH // 2):
        say(f"perfect, patches of {patch} px", [known_places(pair, (SIDE // patch, 299 // patch)) for pair in views], ViewCounts, VIEWS)
    say("a moved copy", [moved_copy(pair) for pair in views], ViewCounts, VIEWS)
    draw = np.random.default_rng(0)
    drawn = [drawn_views(pair, draw) for pair in views]
    beside_chance(groups, lambda number, seed: random_views(views[number], seed), drawn, ViewCounts, VIEWS)

    adapter = KeypointAdapter(load_card("task", "rooms-keypoints"), load_card("protocol", "keypoints-224"))
    reader = reader_of("rooms-keypoints", options.data)
    photos, groups = [reader.load(index) for index in range(len(reader))[: options.pairs]], reader.groups[: options.pairs]
    kinds = len(reader.classes)
    print(f"{len(photos)} pairs of rooms-keypoints")
    counted = [any_pixel(adapter, pair, kinds) for pair in photos]
    beside_chance(groups, lambda number, seed: random_keypoints(adapter, photos[number], kinds, seed), counted, KeypointCounts, KEYPOINTS)


if __name__ == "__main__":
    main()
