"""The front page: the order with its uncertainty against an independent calculation, shades, marks, costs."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, rankdata, t

from tests.helpers.boards import board, entry
from tips_bench.leaderboard.front import front
from tips_bench.leaderboard.ranking import Board
from tips_bench.leaderboard.standing import TASKS_NEEDED, Standing, standing


def scores(tasks: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(3)
    return [{model: float(40 + lead + rng.normal(0, 4)) for model, lead in {"a": 6, "b": 4, "c": 0, "d": -3}.items()} for _ in range(tasks)]


def test_the_interval_over_tasks_is_that_of_all_draws_of_tasks_widened_as_students_t_is() -> None:
    """Without noise from the images, all T ** T draws can be listed, so the interval is known exactly."""
    found = scores(5)
    ranks_TM = np.stack([rankdata([-task[model] for model in "abcd"]) for task in found])
    drawn_DM = np.stack([ranks_TM[list(draw)].mean(axis=0) for draw in product(range(5), repeat=5)])
    mean_M = ranks_TM.mean(axis=0)
    wider = t.ppf(0.975, 4) / norm.ppf(0.975) * math.sqrt(5 / 4)
    low_M, high_M = (mean_M + wider * (np.quantile(drawn_DM, [0.025, 0.975], axis=0) - mean_M)).clip(1, 4)
    for rank in standing([board(f"task {number}", task) for number, task in enumerate(found)]).ranks:
        index = "abcd".index(rank.label)
        assert rank.value == pytest.approx(mean_M[index], abs=1e-3)
        assert rank.interval == pytest.approx((rank.value, rank.value))
        assert rank.over_tasks == pytest.approx((low_M[index], high_M[index]), abs=0.2 * wider)  # the step between two means is 0.2


def test_boards_of_one_task_are_drawn_together() -> None:
    """A second board of each task that says the same adds no information."""
    once = [board(f"task {number}", task) for number, task in enumerate(scores(6))]
    twice = [*once, *(board(f"task {number}", task, "linear") for number, task in enumerate(scores(6)))]
    assert [rank.over_tasks for rank in standing(once).ranks] == [
        pytest.approx(rank.over_tasks, abs=2e-3) for rank in standing(twice).ranks
    ]


def test_with_few_tasks_the_interval_is_over_images_only() -> None:
    found = [board(f"task {number}", task, spread=4.0) for number, task in enumerate(scores(TASKS_NEEDED - 1))]
    for rank in standing(found).ranks:
        assert rank.over_tasks is None
        assert rank.interval[0] < rank.interval[1]


def test_places_are_those_that_an_independent_count_of_the_resamples_leaves_open() -> None:
    found = [board("one", {"a": 50.0, "b": 49.0, "c": 20.0}, spread=2.0)]
    drawn = {one.label: one.drawn_R for one in found[0].entries}
    second = np.mean(drawn["b"] > drawn["a"])
    assert 0.025 < second < 0.975
    assert {rank.label: rank.places for rank in standing(found).ranks} == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}


def test_the_order_over_tasks_holds_the_order_over_images() -> None:
    for rank in standing([board(f"task {number}", task, spread=3.0) for number, task in enumerate(scores(8))]).ranks:
        assert rank.over_tasks is not None
        assert rank.over_tasks[1] - rank.over_tasks[0] >= rank.interval[1] - rank.interval[0]
        assert rank.places[0] <= rank.places[1]


def test_shades_go_from_the_worst_to_the_best_whatever_the_direction() -> None:
    for higher, best in ((True, "high"), (False, "low")):
        rows = front([board("t", {"high": 50.0, "middle": 40.0, "low": 30.0}, higher=higher)], Standing([], []))["rows"]
        shades = {row.label: row.cells[0].shade for row in rows}
        assert shades[best] == 9 and shades["middle"] in (4, 5) and min(shades.values()) == 0


def test_what_was_not_scored_has_no_shade_and_one_model_alone_none() -> None:
    (row,) = front([board("t", {"only": 50.0})], Standing([], []))["rows"]
    assert row.cells[0].shade == 0 and row.cells[0].mark == ""
    rows = front([board("t", {"a": 50.0, "b": 40.0, "none": math.nan})], Standing([], []))["rows"]
    assert {row.label: row.cells[0].shade for row in rows} == {"a": 9, "b": 0, "none": 0}


def test_a_model_that_is_not_on_all_boards_stands_in_the_table_without_a_rank() -> None:
    found = [board("one", {"a": 50.0, "b": 40.0, "part": 60.0}), board("two", {"a": 50.0, "b": 40.0})]
    rows = front(found, standing(found))["rows"]
    assert [row.label for row in rows] == ["a", "b", "part"]
    assert rows[-1].rank is None and rows[-1].cells[1] is None


def test_time_is_the_geometric_mean_and_unknown_where_one_is_missing() -> None:
    found = [board("one", {"a": 50.0}, ms=2.0), board("two", {"a": 50.0}, ms=8.0)]
    assert front(found, standing(found))["rows"][0].ms == pytest.approx(4.0)
    found = [board("one", {"a": 50.0}, ms=2.0), board("two", {"a": 50.0}, ms=math.nan)]
    assert math.isnan(front(found, standing(found))["rows"][0].ms)


def test_the_front_names_no_model_that_another_beats_in_time_and_rank() -> None:
    entries = {"fast": (30.0, 1.0), "slow": (50.0, 9.0), "beaten": (29.0, 5.0)}
    one = Board("t", "segmentation", "convex", "k", [entry("t", m, v, ms=ms) for m, (v, ms) in entries.items()])  # type: ignore[misc]
    ((machine, points),) = front([one], standing([one]))["fronts"]
    assert machine == "cpu" and [point.label for point in points] == ["fast", "slow"]


def test_pages_work_without_a_script(tmp_path: Path) -> None:
    """All scores and the menu are in the HTML; only the fields that need the script are hidden."""
    from tests.helpers.results_sets import write_record
    from tips_bench.leaderboard.site import build

    for model, quality in {"tips-b14": 0.8, "tips-s14": 0.5}.items():
        write_record(tmp_path / "r", model, quality)
    build([tmp_path / "r"], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert page.count(" hidden>") == sum(
        page.count(start) for start in ('class="filter" hidden>', '="overall" hidden>', 'class="theme" hidden>')
    )
    assert '<details class="menu"><summary>Tables' in page
    assert 'href="tables/segmentation-convex-224.html"' in page
