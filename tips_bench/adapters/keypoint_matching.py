"""The task family `keypoint-matching`: points of one image are looked for in another that shows the same kind of thing.

    tips-bench run --task spair --model tipsv2-b14

Nothing is fitted. Published evaluations read features, place matches, measure and average in ways of their own
(tips_bench.features.point_matching, tips_bench.metrics.matches); each is a protocol.

Axes: H W pixels, K points of a pair, A limits; the axis of 2 is the first and the second image, or x and y.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.pairs import maps_of, score_pairs
from tips_bench.adapters.scoring import Scored
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import ImageSample
from tips_bench.data.pairs import ImagesOfPairs, KeypointPair, PairReader
from tips_bench.data.split import Splits
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.patch_maps import PatchMaps, position_basis, without
from tips_bench.features.point_matching import Answer, Reading, find_points, read_points
from tips_bench.metrics.matches import ALPHAS, KeypointCounts, count
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.matches import Line, match_panel

SHOWN = 0.10  # of the size: what is right in a picture

Canvas = Literal["none", "corner-white", "center-black"]


class KeypointOptions(Strict):
    """reading, answer: see tips_bench.features.point_matching. sigma: of the answer "soft", radius: of the answer "window", in patches.
    temperature: of both.

    canvas: images are made square first: "corner-white" adds white at the right or the bottom, "center-black" black on both sides.
    size: alpha is a fraction of the longer side of the object's "box" or of the second "image". below: an error has to be less than the
    limit, else at most the limit. debias: features less so many directions that tell of positions; null = as they are.
    """

    type: Literal["keypoints"]
    reading: Reading
    answer: Answer
    sigma: float = Field(7, gt=0)
    radius: int = Field(5, ge=0)
    temperature: float = Field(0.04, gt=0)
    canvas: Canvas = "none"
    size: Literal["box", "image"] = "box"
    below: bool = False
    debias: int | None = Field(None, gt=0)


@dataclass(frozen=True)
class OnCanvas:
    """The images of a reader on square canvases."""

    images: ImagesOfPairs
    canvas: Canvas

    def size(self, index: int) -> tuple[int, int]:
        """(side, side) in pixels."""
        size = self.images.size(index)
        return size if self.canvas == "none" else (max(size), max(size))

    def shift(self, index: int) -> np.ndarray:
        """(x, y) of the image's corner on its canvas."""
        height, width = self.images.size(index)
        return np.array([(max(height, width) - side) // 2 * (self.canvas == "center-black") for side in (width, height)])

    def load(self, index: int) -> ImageSample:
        """An image on its canvas. Errors: a broken or missing file."""
        sample = self.images.load(index)
        if self.canvas == "none":
            return sample
        (height, width), side, (left, top) = sample.image_HW3.shape[:2], max(sample.image_HW3.shape[:2]), self.shift(index)
        image_HW3 = np.full((side, side, 3), 255 if self.canvas == "corner-white" else 0, np.uint8)
        image_HW3[top : top + height, left : left + width] = sample.image_HW3
        return ImageSample(sample.id, sample.group, image_HW3)


class KeypointAdapter:
    """Joins reader, matching and counts for one protocol."""

    needs_text = False
    observed = True
    probe = None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.options = parse(KeypointOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.")

    def open(self, root: Path, limit: int | None) -> Splits[PairReader[KeypointPair]]:
        """The pairs as the test split."""
        return Splits.open(self.task.data, root, limit, train=False)

    def score(self, context: RunContext, splits: Splits[PairReader[KeypointPair]], head: None, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every pair of the test split."""
        test, groups = splits.test, len(splits.test.reader.classes)
        matching = self._matching(context, splits)

        def score(index: int) -> Scored:
            pair = test.reader.load(index)
            within_AK = self.within(pair, matching.find(pair))
            return Scored(index, pair, count(within_AK, pair.kind, groups), within_AK)

        scores = score_pairs(context, test, KeypointCounts.for_classes(test.reader.classes), beside, score)
        matching.maps.close()
        return scores

    def within(self, pair: KeypointPair, found_K2: np.ndarray) -> np.ndarray:
        """bool [A,K]: whether each point is found within each of ALPHAS."""
        errors_K = np.linalg.norm(found_K2 - pair.points_2K2[1], axis=1)
        limits_A1 = np.array(ALPHAS)[:, None] * self.unit(pair)
        return errors_K < limits_A1 if self.options.below else errors_K <= limits_A1

    def unit(self, pair: KeypointPair) -> float:
        """Pixels that alpha is a fraction of. Errors: the box of a set without boxes."""
        if self.options.size == "image":
            return float(max(pair.size))
        if pair.box is None:
            fix = "Set probe.size to image."
            raise UserError(
                "the protocol measures by the box of an object, and the data have none", where=f"task {self.task.name}", fix=fix
            )
        left, top, right, bottom = pair.box
        return max(right - left, bottom - top)

    def _matching(self, context: RunContext, splits: Splits[PairReader[KeypointPair]]) -> _Matching:
        images = OnCanvas(splits.test.reader.images, self.options.canvas)
        basis_Dc = None
        if self.options.debias is not None:
            basis_Dc = position_basis(context.extractor, images.size(0), self.options.debias)
        return _Matching(self.options, images, maps_of(context, splits.test, images), basis_Dc)

    def draw(self, context: RunContext, splits: Splits[PairReader[KeypointPair]], head: None, indices: list[int]) -> list[Picture]:
        """Both images of a pair with a line for each point, green where it is found."""
        test, pictures = splits.test, []
        matching = self._matching(context, splits)
        for index in indices:
            pair = test.reader.load(index)
            found_K2, unit = matching.find(pair), self.unit(pair)
            errors_K = np.linalg.norm(found_K2 - pair.points_2K2[1], axis=1)
            right_K = errors_K <= SHOWN * unit
            points = zip(pair.points_2K2[0], found_K2, pair.points_2K2[1], right_K, strict=True)
            lines = [Line(tuple(a), tuple(b), tuple(truth), bool(right)) for a, b, truth, right in points]
            first_HW3, second_HW3 = (test.reader.images.load(place).image_HW3 for place in (pair.first, pair.second))
            caption = f"{test.reader.classes[pair.kind]}: {right_K.sum()} of {len(right_K)} points within {SHOWN * unit:.0f} pixels"
            pictures.append(Picture(match_panel(first_HW3, second_HW3, lines, caption)))
        matching.maps.close()
        return pictures


@dataclass(frozen=True)
class _Matching:
    """The maps of all images, and how points are found in them."""

    options: KeypointOptions
    images: OnCanvas
    maps: PatchMaps
    basis_Dc: Tensor | None

    def find(self, pair: KeypointPair) -> np.ndarray:
        """x, y of every point of a pair in its second image [K,2]."""
        options, maps = self.options, self.maps
        start, end = self.images.shift(pair.first), self.images.shift(pair.second)
        queries_KD = read_points(self._map(pair.first), pair.points_2K2[0] + start, maps.grids[pair.first], options.reading)
        keys, grid = self._map(pair.second), maps.grids[pair.second]
        found_K2 = find_points(
            queries_KD, keys, grid, options.answer, sigma=options.sigma, radius=options.radius, temperature=options.temperature
        )
        return found_K2 - end

    def _map(self, place: int) -> Tensor:
        features_hwD = self.maps[place]
        return features_hwD if self.basis_Dc is None else without(features_hwD, self.basis_Dc)
