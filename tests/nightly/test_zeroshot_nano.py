"""tips-nano names what it sees in 160 rooms that it was not trained on; its twin with random weights does not.

Reference command: pytest tests/nightly -m nightly -s
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tips_bench.evaluation.run import evaluate

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]
FEW = ["task.data.generator_options.train=4"]  # training rooms, which nothing here reads
CHANCE = 0.63  # mIoU of a class drawn at random for each pixel of these rooms; calling every pixel a wall has 0.80


@pytest.mark.parametrize("protocol", ["tips-values-224", "tips-slide-84"])
def test_tips_nano_names_what_rooms_show_and_its_random_twin_does_not(tmp_path: Path, protocol: str) -> None:
    nano, twin = (evaluate("rooms-zeroshot", model, protocol, out=tmp_path, overrides=FEW) for model in ("tips-nano", "tips-nano-random"))
    for record in (nano, twin):
        print({name: (round(metric.value, 2), metric.ci95) for name, metric in record.metrics.items()})
    assert nano.metrics["mIoU"].n == 160
    assert nano.metrics["mIoU"].ci95[0] > 3 * CHANCE > twin.metrics["mIoU"].ci95[1]
