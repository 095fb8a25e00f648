"""What families of image pairs share: the maps of all images, and pairs scored one by one.

Axes: h w token grid, D feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tips_bench.adapters.base import Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.data.pairs import PairReader
from tips_bench.data.split import Split
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Images
from tips_bench.features.patch_maps import PatchMaps, encode_maps
from tips_bench.metrics.matches import MatchCounts
from tips_bench.metrics.samples import SampleCounts


def maps_of(context: RunContext, test: Split[PairReader[Any]], images: Images) -> PatchMaps:
    """The maps of all images that the pairs of a split are made of. images: the reader's, as the encoder is to see them."""
    reader = test.reader
    pairs = [reader.pair(index) for index in test.indices]
    used = sorted({place for pair in pairs for place in (pair.first, pair.second)})
    return encode_maps(context.extractor, images, used, [reader.images.ids[place] for place in used], context.scratch, "images of pairs")


def score_pairs(
    context: RunContext,
    test: Split[PairReader[Any]],
    counts: MatchCounts,
    beside: dict[str, SampleCounts],
    score: Callable[[int], Scored],
    notes: tuple[str, ...] = (),
) -> Scores:
    """Counts of every pair, each scored by one of the ranks."""

    def outcomes(indices: list[int]) -> Iterator[Scored]:
        for index in context.extractor.world.share(indices):
            yield score(index)

    return score_samples(context, test, counts, beside, outcomes, notes)
