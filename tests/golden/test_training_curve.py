"""Fifty steps on fixed noise, by the numbers: a change of the method shows up as a changed line, a refactoring changes none.

To write the curve anew after a meant change: python -m pytest tests/golden/test_training_curve.py fails and shows it; copy that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pretraining import ALONE, random_batch, recipe
from tips_bench.training.step import Learner

TERMS = ("loss", "contrastive", "self_distillation", "patches", "temperature")
CURVES = Path(__file__).parent / "data"


@pytest.mark.parametrize(("kind", "patches"), [("ema", "masked"), ("ema-heads", "all")], ids=["tips", "tipsv2"])
def test_the_curve_of_fifty_steps_is_the_one_that_was_kept(kind: str, patches: str) -> None:
    chosen = recipe(steps=50, method__teacher={"kind": kind, "momentum": [0.99, 1.0]}, method__patches__patches=patches)
    learner = Learner(chosen, ALONE)
    lines = [" ".join(("step", *TERMS))]
    for number in range(50):
        report = learner.step(random_batch(seed=number % 5), number)
        lines.append(" ".join((str(number + 1), *(f"{report[term]:.3f}" for term in TERMS))))
    kept = (CURVES / f"training_curve_{kind}.txt").read_text(encoding="utf-8")
    assert "\n".join(lines) + "\n" == kept
