"""A thousand simulated sets each: do 95 % intervals hold the truth, and do tests at 5 % cry wolf as often as they say?

Reference command: pytest tests/nightly -m nightly -s
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rates import World, false_discoveries, mean_iou, rates, recall, rmse, unlike_accuracy

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
def test_intervals_cover_the_truth_and_tests_keep_their_level(name: str) -> None:
    found = rates(WORLDS[name](), TRIALS)
    print(f"\n| {name} | {100 * found.score:.1f} | {100 * found.difference:.1f} | {100 * found.rejected:.1f} |")
    assert 0.93 <= found.score <= 0.97
    assert 0.93 <= found.difference <= 0.97
    assert 0.035 <= found.rejected <= 0.065  # 5 % and two standard errors of a share of 1,000


def test_a_true_drop_is_covered() -> None:
    found = rates(mean_iou(200, 40, drop=0.05), TRIALS)
    print(
        f"\n| mIoU, 200 images, 40 classes, a true drop | {100 * found.score:.1f} | {100 * found.difference:.1f} | power {100 * found.rejected:.0f} |"
    )
    assert 0.93 <= found.difference <= 0.97 and found.rejected > 0.5


def test_benjamini_hochberg_holds_its_rate() -> None:
    """Of 60 tests 45 have no difference: the bound is 5 % of 45/60."""
    rate, power = false_discoveries(200)
    print(f"\n| 60 tests, 15 true | false discoveries {100 * rate:.1f} | power {100 * power:.0f} |")
    assert rate <= 0.05 and power > 0.7
