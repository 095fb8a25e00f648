"""tips-nano names what it sees in 160 rooms that it was not trained on; its twin with random weights does not.

Reference command: pytest tests/nightly -m nightly -s
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tips_bench.adapters.run import evaluate

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]
FEW = ["task.data.generator_options.train=4"]  # training rooms, which nothing here reads


def test_the_class_accuracy_of_tips_nano_is_above_chance_by_its_interval_and_its_random_twins_is_not(tmp_path: Path) -> None:
    nano, twin = (evaluate("rooms-zeroshot", model, out=tmp_path, overrides=FEW) for model in ("tips-nano", "tips-nano-random"))
    for record in (nano, twin):
        print({name: (round(metric.value, 2), metric.ci95) for name, metric in record.metrics.items()})
    assert nano.metrics["mIoU"].n == 160
    # A prediction that knows nothing of the labels is right on 1 class in 42, whatever it prefers.
    chance = 100 / len(nano.dataset.classes)
    assert nano.metrics["mAcc"].ci95[0] > chance > twin.metrics["mAcc"].ci95[0]
    assert nano.metrics["mIoU"].ci95[0] > twin.metrics["mIoU"].ci95[1]
