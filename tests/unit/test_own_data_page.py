"""The cards of docs/new-task.md, as they stand there, read small sets in the layouts that the page draws."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.segmentation_sets import picture
from tips_bench.cards import TaskCard
from tips_bench.data.checks.task import check_task

PAGE = Path(__file__).resolve().parents[2] / "docs/new-task.md"
CARDS = {card["name"]: TaskCard(**card) for card in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL))}


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def draw(root: Path) -> None:
    """The four sets, two images a split."""
    for split, first in (("train", 1), ("val", 101)):
        for number in (first, first + 1):
            name, image_HW3 = f"{number:04d}", picture(number)
            save(root / f"mine/images/{split}/video_{name}.jpg", image_HW3)
            save(root / f"mine/labels/{split}/video_{name}.png", np.full((24, 36), number % 2, np.uint8))
            save(root / f"mine-depth/images/{split}/{name}.jpg", image_HW3)
            save(root / f"mine-depth/depth/{split}/{name}.png", np.full((24, 36), 1000 + number, np.uint16))
            save(root / f"mine-classes/{split}/{'cat' if number % 2 else 'dog'}/{name}.jpg", image_HW3)
            save(root / f"mine-captions/images/{name}.jpg", image_HW3)
    (root / "mine/classes.json").write_text(json.dumps({"classes": ["wall", "floor"], "palette": [[1, 1, 1], [2, 2, 2]]}))
    (root / "mine-captions/test.csv").write_text("image,caption\n0001.jpg,A room.\n0001.jpg,One more.\n0002.jpg,A hall.\n")


@pytest.mark.parametrize("name", ["mine", "mine-depth", "mine-classes", "mine-captions"])
def test_a_card_of_the_page_reads_what_the_page_draws(name: str, tmp_path: Path) -> None:
    draw(tmp_path)
    reports = check_task(CARDS[name], tmp_path)
    assert [(report.samples, report.faults) for report in reports] == [(2, [])] * len(CARDS[name].data.splits)


def test_every_card_of_the_page_is_tried_here() -> None:
    assert sorted(CARDS) == ["mine", "mine-captions", "mine-classes", "mine-depth"]
