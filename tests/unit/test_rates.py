"""The simulations of tests/nightly in small: enough to catch a wrong formula, not to measure a rate."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.rates import false_discoveries, mean_iou, rates, recall, rmse, unlike_accuracy

TRIALS = 120


@pytest.mark.slow
@pytest.mark.parametrize(
    "world", [mean_iou(120, 10, groups=40), unlike_accuracy(100), rmse(100), recall(60)], ids=lambda world: world.metric
)
def test_intervals_and_tests_are_about_right(world) -> None:
    found = rates(world, TRIALS, resamples=300, swaps=199)
    tolerance = 3.5 * np.sqrt(0.95 * 0.05 / TRIALS)
    assert found.score > 0.94 - tolerance and found.difference > 0.94 - tolerance
    assert found.rejected < 0.05 + tolerance


@pytest.mark.slow
def test_false_discoveries_are_about_as_rare_as_said() -> None:
    rate, power = false_discoveries(12, tests=40, changed=10)
    assert rate < 0.10 and power > 0.5
