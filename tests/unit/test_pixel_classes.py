"""Classes from a softmax over names, against brute force; thresholds; and what contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tips_bench.cards import parse
from tips_bench.errors import UserError
from tips_bench.probes.training_free.class_names import TextHead, TextOptions
from tips_bench.probes.training_free.pixel_classes import pixel_classes

NAMES = [0, 0, 1, 2, 2, 2]  # the class of each name
PLAIN: dict[str, Any] = {
    "type": "text", "prompts": ["{}"], "softmax": None, "upsample": "image", "background": "names", "logit_scale": 5.0,
}  # fmt: skip


def head() -> TextHead:
    return TextHead(torch.zeros(len(NAMES), 2), torch.tensor(NAMES), torch.arange(3))


def brute(cosines_THW: torch.Tensor, threshold: float, area: float | None) -> np.ndarray:
    shares = torch.softmax(5.0 * cosines_THW, 0).numpy()
    best = np.stack([shares[[place for place, of in enumerate(NAMES) if of == number]].max(0) for number in range(3)])
    if area is not None:
        first = best.argmax(0)
        total = (first > 0).sum()
        for number in (1, 2):
            if (first == number).sum() <= area * total:
                best[number] = 0
    found = best.argmax(0)
    found[best.max(0) < threshold] = 0
    return found


@pytest.mark.parametrize(("threshold", "area"), [(0.0, None), (0.4, None), (0.0, 0.45), (0.4, 0.45), (0.0, 0.0)])
def test_classes_are_those_of_brute_force_however_many_pieces_they_come_in(threshold: float, area: float | None) -> None:
    cosines_THW = torch.rand(6, 40, 30, generator=torch.Generator().manual_seed(0))
    cosines_THW[3:, 20:] -= 0.3
    options = parse(TextOptions, PLAIN | {"probability_threshold": threshold, "area_threshold": area}, where="x")
    wanted = brute(cosines_THW, threshold, area)
    for rows in (40, 7):
        assert (pixel_classes(cosines_THW.split(rows, 1), head(), options, 5.0, 0) == wanted).all()
    assert len(np.unique(wanted)) == (2 if area == 0.45 else 3)


def test_a_set_without_a_background_keeps_every_pixel() -> None:
    cosines_THW = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(1))
    found = pixel_classes([cosines_THW], head(), parse(TextOptions, PLAIN, where="x"), 5.0, None)
    assert (found == brute(cosines_THW, 0.0, None)).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logit_scale": None, "probability_threshold": 0.1}, "need a logit_scale"),
        ({"logit_scale": None, "pamr": {"steps": 1, "dilations": [1]}}, "need a logit_scale"),
        ({"softmax": 1.0}, "logit_scale needs softmax null"),
        ({"upsample": "labels"}, "logit_scale needs softmax null"),
        ({"pamr": {"steps": 0, "dilations": [1]}}, "pamr.steps"),
        ({"prompts": "openai-81"}, "probe.prompts"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        parse(TextOptions, PLAIN | changes, where="x", prefix="probe.")
    assert "\n" not in str(error.value)
