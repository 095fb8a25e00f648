"""The task family `view-matching`: points of one view of a scene are matched with those of another, and depth and poses tell how far off
each match is. Nothing is fitted.

    tips-bench run --task navi-pairs --model tipsv2-b14

A match is measured in meters between its two points of the scene and in pixels of the second image. Pixels are those of the image that the
reader gives: mbanani/probe3d a1f1464 counts NAVI's so, too, but ScanNet's in an image of a quarter of its size
(evaluate_scannet_correspondence.py:73-85), so its 5, 10 and 20 pixels of ScanNet are 20, 40 and 80 here.

Axes: H W grid of points, k matches, A limits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.pairs import maps_of, score_pairs
from tips_bench.adapters.scoring import Scored
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.pairs import PairReader, ViewPair
from tips_bench.data.split import Splits
from tips_bench.data.view_geometry import match_errors
from tips_bench.features.context import RunContext
from tips_bench.features.patch_maps import PatchMaps
from tips_bench.features.view_matching import Surest, match_views
from tips_bench.metrics.matches import CENTIMETERS, PIXELS, ViewCounts, count
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.matches import Line, match_panel

NOTES = ("matches", "pairs with fewer matches than wanted")
SHOWN, SHOWN_CM = 40, 5  # matches of a picture; what is right in it


class ViewOptions(Strict):
    """matches: the surest of a pair that are scored. enlarge: how maps are enlarged to the grid of points.

    both_ways: only matches of points that are each other's nearest. surest: what tells how sure a match is, the "ratio" of the distances to
    a point's two nearest, or the "cosine" to its nearest.
    """

    type: Literal["views"]
    matches: int = Field(1000, gt=0)
    enlarge: Literal["bicubic", "bilinear"]
    both_ways: bool = False
    surest: Surest = "ratio"


class ViewAdapter:
    """Joins reader, matching and counts for one protocol."""

    needs_text = False
    observed = False
    probe = None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.options = parse(ViewOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")

    def open(self, root: Path, limit: int | None) -> Splits[PairReader[ViewPair]]:
        """The pairs as the test split."""
        return Splits.open(self.task.data, root, limit, train=False)

    def score(self, context: RunContext, splits: Splits[PairReader[ViewPair]], head: None, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every pair of the test split, and the numbers of NOTES over all of them."""
        test, groups = splits.test, len(splits.test.reader.classes)
        maps = maps_of(context, test, test.reader.images)

        def score(index: int) -> Scored:
            pair = test.reader.load(index)
            meters_k, pixels_k, _ = self._match(maps, pair)
            notes = len(meters_k), int(len(meters_k) < self.options.matches)
            return Scored(index, pair, count(within(meters_k, pixels_k), pair.kind, groups), notes=notes)

        scores = score_pairs(context, test, ViewCounts.for_classes(test.reader.classes), beside, score, NOTES)
        maps.close()
        return scores

    def draw(self, context: RunContext, splits: Splits[PairReader[ViewPair]], head: None, indices: list[int]) -> list[Picture]:
        """Both views with a line for some of the matches, green where they are one place of the scene."""
        test, pictures = splits.test, []
        maps = maps_of(context, test, test.reader.images)
        for index in indices:
            pair = test.reader.load(index)
            meters_k, _, places_2k = self._match(maps, pair)
            first_HW3, second_HW3 = (test.reader.images.load(place).image_HW3 for place in (pair.first, pair.second))
            right_k = meters_k < SHOWN_CM / 100
            chosen = np.linspace(0, len(right_k) - 1, min(SHOWN, len(right_k))).astype(int)
            pixels = [pixels_of(places_k[chosen], pair.points_2HW3.shape[1:3], first_HW3.shape[:2]) for places_k in places_2k]
            lines = [Line(tuple(a), tuple(b), None, bool(right)) for a, b, right in zip(*pixels, right_k[chosen], strict=True)]
            share = 100 * right_k.mean() if len(right_k) else 0
            caption = f"{pair.angle:.0f} degrees apart: {share:.0f} % of {len(right_k)} matches within {SHOWN_CM} cm"
            pictures.append(Picture(match_panel(first_HW3, second_HW3, lines, caption)))
        maps.close()
        return pictures

    def _match(self, maps: PatchMaps, pair: ViewPair) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """(errors in meters [k], in pixels [k], places of both views, line by line)."""
        first, second = maps[pair.first], maps[pair.second]
        known_2HW = torch.from_numpy(pair.points_2HW3[..., 2] > 0).to(first.device)
        matches, kind, both_ways, surest = self.options.matches, self.options.enlarge, self.options.both_ways, self.options.surest
        found = match_views(first, second, known_2HW, matches, kind=kind, both_ways=both_ways, surest=surest)
        places_2k = [places_k.cpu().numpy() for places_k in (found.first_k, found.second_k)]
        first_k3, second_k3 = (
            points_HW3.reshape(-1, 3)[places_k] for points_HW3, places_k in zip(pair.points_2HW3, places_2k, strict=True)
        )
        return *match_errors(first_k3, second_k3, pair.move_44, pair.focal), places_2k


def within(meters_k: np.ndarray, pixels_k: np.ndarray) -> np.ndarray:
    """bool [A,k]: whether each match is nearer than each limit of tips_bench.metrics.matches."""
    return np.stack([*(meters_k < limit / 100 for limit in CENTIMETERS), *(pixels_k < limit for limit in PIXELS)])


def pixels_of(places_k: np.ndarray, grid: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """x, y [k,2] in an image of places on a grid over it."""
    cells_k2 = np.stack([places_k % grid[1], places_k // grid[1]], 1) + 0.5
    return cells_k2 / np.array(grid[::-1]) * np.array(size[::-1])
