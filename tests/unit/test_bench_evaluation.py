"""benchmarks/bench_evaluation.py: which evaluations it measures, and what it calls efficiency."""

from __future__ import annotations

import pytest

from benchmarks.bench_evaluation import CASES, SIX, efficiency
from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.evaluation.counting import crops
from tips_bench.evaluation.spec import resolve


def test_every_family_that_has_rooms_is_measured() -> None:
    rooms = {load_card("task", name).family for name in card_files("task") if load_card("task", name).data.generator}
    assert {load_card("task", case.task).family for case in CASES} == rooms


def test_the_crops_of_trained_probes_grow_with_the_images() -> None:
    trained = [case for case in CASES if case.steps]
    families = {load_card("task", case.task).family for case in trained}
    assert families == {"segmentation", "depth", "classification"}
    for case in trained:
        few, many = (crops(resolve(case.task, "tips-s14", case.protocol, overrides=case.overrides(limit))) for limit in (96 // SIX, 96))
        assert many >= 4 * few
    for case in CASES:
        assert resolve(case.task, "tips-s14", case.protocol, overrides=case.overrides(96)).protocol.name == case.protocol


def test_efficiency_falls_with_all_that_a_run_adds_to_the_bare_encoder() -> None:
    assert efficiency(0.1, 0.1, 0, 0) == 1 and efficiency(0.1, 0.1, 0.1, 0) == 1, "texts are work of the encoder"
    assert efficiency(0.1, 0.1, 0, 0.1) == pytest.approx(0.5)
    assert efficiency(0.1, 0.125, 0, 0) == pytest.approx(0.8), "an encoder that is slower within a run counts, too"
