"""Which samples of a set are drawn, and that a record says which they were."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from tests.helpers.records import record
from tips_bench.data.split import Split
from tips_bench.evaluation.report import to_draw
from tips_bench.metrics.depth import SUMS, DepthCounts
from tips_bench.metrics.segmentation import SegmentationCounts

IDS = [f"image-{number:02}" for number in range(20)]
SPLIT: Split = Split("val", SimpleNamespace(ids=IDS), list(range(len(IDS))))  # type: ignore[arg-type]


def segmented(unscored: int = 0) -> SegmentationCounts:
    """Image n has n of 20 pixels right; the last ones have no labels."""
    counts = SegmentationCounts(2)
    for number, id in enumerate(IDS):
        labeled = 20 if number < len(IDS) - unscored else 0
        right = number if labeled else 0
        counts.update(id, id, np.array([[right, 0], [right, labeled - right], [labeled, 0]]))
    return counts


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 20, 30])
def test_a_quarter_each_is_the_hardest_and_the_easiest(number: int) -> None:
    shown = to_draw(SPLIT, segmented(), "mIoU", number)
    assert len(shown.ids) == len(set(shown.ids)) == min(number, len(IDS))
    assert {*IDS[: (number + 2) // 4], *IDS[len(IDS) - number // 4 :]} <= set(shown.ids)


def test_all_models_share_those_that_come_first() -> None:
    other = SegmentationCounts(2)
    for number, id in enumerate(IDS):
        other.update(id, id, np.array([[19 - number, 0], [19 - number, 1 + number], [20, 0]]))
    first, second = (to_draw(SPLIT, counts, "mIoU", 8) for counts in (segmented(), other))
    assert first.indices[:4] == second.indices[:4] == SPLIT.pick(4)
    assert first.ids != second.ids


def test_an_image_without_a_score_is_neither_hard_nor_easy() -> None:
    shown = to_draw(SPLIT, segmented(unscored=6), "mIoU", 8)
    by_hash = {IDS[index] for index in SPLIT.pick(8)}
    assert set(shown.ids) - by_hash <= set(IDS[:14])


def test_where_lower_is_better_the_hardest_has_the_greatest_error() -> None:
    counts = DepthCounts()
    for number, id in enumerate(IDS):
        sums = np.zeros(len(SUMS))
        sums[0], sums[1], sums[SUMS.index("RMSE")] = 1, 10, 1 + number
        counts.update(id, id, sums)
    assert {IDS[-1], IDS[0]} <= set(to_draw(SPLIT, counts, "RMSE", 4).ids)
    assert IDS[-1] in to_draw(SPLIT, counts, "RMSE", 2).ids


def test_a_record_names_a_sample_for_each_picture_but_the_sheet() -> None:
    drawn = record("t", "m", None, pictures=["sheet.png", "1.png", "2.png"], pictured=["a", "b"])
    assert drawn.picture_of == {"a": "1.png", "b": "2.png"}
    assert record("t", "m", None, pictures=["sheet.png", "1.png"]).picture_of == {}
    with pytest.raises(ValidationError, match="2 samples for 2 pictures"):
        record("t", "m", None, pictures=["sheet.png", "1.png"], pictured=["a", "b"])
