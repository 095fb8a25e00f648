"""A thousand simulated sets each: do 95 % intervals hold the truth, and do tests at 5 % cry wolf as often as they say?

Reference command: pytest tests/nightly -m nightly -s
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.rates import World, false_discoveries, mean_iou, rates, recall, rejected, rmse, unlike_accuracy

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]
TRIALS = 1000
WORLDS: dict[str, Callable[[], World]] = {
    "mIoU, 200 images, 10 classes": lambda: mean_iou(200, 10),
    "mIoU, 200 images, 40 classes": lambda: mean_iou(200, 40),
    "mIoU, 1,000 images, 100 classes": lambda: mean_iou(1000, 100),
    "mIoU, 240 images in 40 scenes": lambda: mean_iou(240, 10, groups=40),
    "aAcc, 200 images, models unlike": lambda: unlike_accuracy(200),
    "RMSE, 200 images": lambda: rmse(200),
    "R@1, 100 images of 5 captions": lambda: recall(100),
}


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover_the_truth(name: str) -> None:
    found = rates(WORLDS[name](), TRIALS)
    print(f"\n| {name} | {100 * found.score:.1f} | {100 * found.difference:.1f} |")
    assert 0.93 <= found.score <= 0.97
    assert 0.93 <= found.difference <= 0.97


@pytest.mark.parametrize("name", WORLDS)
def test_models_that_do_not_differ_are_told_apart_one_time_in_twenty(name: str) -> None:
    """Of 4,000 sets, for the share of 1,000 strays beyond 4 to 6 % one time in seven even of an exact test."""
    found = rejected(WORLDS[name](), 4 * TRIALS)
    print(f"\n| {name} | false alarms {100 * found:.1f} |")
    assert 0.04 <= found <= 0.06


def test_a_true_drop_is_covered() -> None:
    found = rates(mean_iou(200, 40, drop=0.05), TRIALS)
    print(f"\n| mIoU, 200 images, 40 classes, B worse | {100 * found.score:.1f} | {100 * found.difference:.1f} |")
    print(f"told apart {100 * found.rejected:.0f} % of the time")
    assert 0.93 <= found.difference <= 0.97 and found.rejected > 0.5


def test_benjamini_hochberg_holds_its_rate() -> None:
    """Of 60 tests 45 have no difference: the bound is 5 % of 45/60."""
    rate, power = false_discoveries(200)
    print(f"\n| 60 tests, 15 true | false discoveries {100 * rate:.1f} | power {100 * power:.0f} |")
    assert rate <= 0.05 and power > 0.7
