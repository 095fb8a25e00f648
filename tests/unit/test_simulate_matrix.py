"""benchmarks/simulate_matrix.py: the table of docs/scale.md is the script's, and jobs are scheduled as the executors do it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.simulate_matrix import BASE, CASES, COLUMNS, PEAK, SHARE, encoders, operations, row, scheduled, tasks
from tips_bench.cards import load_card
from tips_bench.evaluation.estimate import estimate
from tips_bench.evaluation.spec import resolve

LINES = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8").splitlines()


def test_the_page_has_the_lines_of_the_script() -> None:
    start = LINES.index(f"| {' | '.join(COLUMNS)} |")
    names = [line.split(" | ")[0].removeprefix("| ") for line in LINES[start + 2 : start + 2 + len(CASES)]]
    assert names == [case.name for case in CASES] and not LINES[start + 2 + len(CASES)].startswith("|")
    assert row(CASES[1], PEAK * SHARE) in LINES, "python -m benchmarks.simulate_matrix has other numbers now: put its table on the page"
    assert any(f"{len(encoders())} model cards" in line for line in LINES)


def test_the_tasks_are_on_real_data_and_of_every_family_that_has_some() -> None:
    chosen = [load_card("task", name) for name in tasks(BASE.tasks)]
    assert len(chosen) == BASE.tasks and not any(card.data.generator for card in chosen)
    assert {card.family for card in chosen} == {load_card("task", name).family for name in tasks(999)}


def test_operations_count_products_with_weights_and_attention() -> None:
    (found,) = estimate([resolve("imagenet-knn", "tips-b14", "knn-dinov2")], "bf16")
    model = found.spec.model
    assert model.parameters is not None and found.sizes == {(224, 224): 1_281_167 + 50_000}
    an_image = 2 * model.parameters * 256 + 4 * 256**2 * 768 * 12
    assert operations(model, found) == pytest.approx(an_image * found.shared)


def test_a_job_starts_on_what_is_free_first() -> None:
    assert scheduled([1, 1, 3, 2], 2) == 4 and scheduled([5], 3) == 5
