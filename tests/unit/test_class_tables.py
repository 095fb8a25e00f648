"""Classes as tables: against independent calculations, and what is never said of a class with few images."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.class_tables import (
    CONFUSED,
    ENOUGH,
    board_classes,
    board_table,
    confusion_table,
    median_of_others,
    record_table,
)
from tips_bench.leaderboard.html import Against, run_context
from tips_bench.leaderboard.ranking import Board, boards, read
from tips_bench.results.counts import load_scored


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    out = tmp_path_factory.mktemp("results")
    for model, quality in {"good": 0.8, "near": 0.78, "poor": 0.3, "middle": 0.5}.items():
        write_record(out, model, quality, number=40)
    (found,) = boards(read([out])[0])
    return found


values = st.lists(st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=2, max_size=7)


@given(values)
def test_the_median_of_the_others_is_that_of_the_list_without_the_model(found: list[list[float]]) -> None:
    values_MC = np.array(found)
    expected = [np.median(np.delete(values_MC, model, axis=0), axis=0) for model in range(len(values_MC))]
    assert median_of_others(values_MC) == pytest.approx(np.array(expected))


def test_a_class_that_one_model_has_no_score_of_has_no_median() -> None:
    found = median_of_others(np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]))
    assert found[:, 0].tolist() == [4.0, 3.0, 2.0] and np.isnan(found[:, 1]).all()


def test_a_lead_on_a_class_is_paired_over_the_resamples(board: Board) -> None:
    classes = board_classes(board)
    assert classes is not None
    by_class = board.entries[0].by_class
    assert by_class is not None and by_class.name == "IoU"
    drawn_MRC = np.stack([entry.by_class.drawn_RC for entry in board.entries if entry.by_class]).astype(float)
    for model in range(len(board.entries)):
        lead_RC = drawn_MRC[model] - np.median(np.delete(drawn_MRC, model, axis=0), axis=0)
        low_C, high_C = np.percentile(lead_RC, [2.5, 97.5], axis=0)
        for place in range(len(by_class.labels)):
            duel = classes.duel(model, place, by_class.spec)
            assert duel is not None and duel.sure == pytest.approx((low_C[place], high_C[place]), abs=1e-3)
    best, worst = (board_table(board, classes) or {})["rows"][0]["cells"][0], board.entries[-1].label
    assert best[1] == "better" and worst == "poor"


def test_a_class_is_counted_in_the_images_whose_labels_hold_it(board: Board) -> None:
    labeled_NC = load_scored(board.entries[0].path).counts.counts_N[:, 2]
    for entry in board.entries:
        assert entry.by_class is not None
        assert entry.by_class.samples_C.tolist() == (labeled_NC > 0).sum(axis=0).tolist()


def test_the_hardest_class_comes_first_and_one_without_score_last(board: Board) -> None:
    table = board_table(board, board_classes(board))
    assert table is not None
    medians = [row["median"] for row in table["rows"]]
    assert medians == sorted(medians)
    for row in table["rows"]:
        assert row["worst"] <= row["median"] <= row["best"]
    first = record_table(board.entries[0], board, board_classes(board))
    assert first is not None
    scores = [row.value for row in first["rows"]]
    assert scores == sorted(scores)


def test_a_class_that_few_groups_hold_has_no_interval_and_no_verdict(tmp_path: Path) -> None:
    for model, quality in {"good": 0.9, "poor": 0.2}.items():
        write_record(tmp_path, model, quality, number=2 * ENOUGH - 2)  # two images a group
    (board,) = boards(read([tmp_path])[0])
    table = record_table(board.entries[0], board, board_classes(board))
    assert table is not None
    assert all(row.sure is None and row.duel is not None and row.duel.sure is None and not row.duel.verdict for row in table["rows"])
    assert all(row.value is not None for row in table["rows"])


def test_a_record_alone_is_compared_with_nobody(tmp_path: Path) -> None:
    write_record(tmp_path, "only", 0.5)
    (board,) = boards(read([tmp_path])[0])
    table = run_context(board.entries[0], [], Against.of(board))["classes"]
    assert not table["others"] and len(table["rows"]) == 6
    assert all(row.others is None and row.duel is None for row in table["rows"])


def test_confusions_are_shares_of_what_is_labeled_of_the_classes_that_are_confused_most() -> None:
    classes = CONFUSED + 3
    counts_CC = np.diag(np.full(classes, 10))
    counts_CC[0, 1] = 30
    entry = SimpleNamespace(
        confusion_CC=counts_CC, record=SimpleNamespace(dataset=SimpleNamespace(classes=[f"c{i}" for i in range(classes)]))
    )
    table = confusion_table(entry)  # type: ignore[arg-type]
    assert table is not None and table["left_out"] == 3 and len(table["labels"]) == CONFUSED
    assert table["rows"][0] == ("c0", [25.0, 75.0, *[0.0] * (CONFUSED - 2)])
    assert confusion_table(SimpleNamespace(confusion_CC=None)) is None  # type: ignore[arg-type]
    assert all(math.isclose(sum(row), 100) for label, row in table["rows"])
