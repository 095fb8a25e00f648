"""Who may go on with a run, and with which recipe."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.pretraining import recipe, values
from tips_bench.errors import UserError
from tips_bench.training.claim import _changes, _check_stages, _check_told, claimed
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.schedule import first_taught, start_at


def stages(*steps: int, rates: tuple[float, ...] = (1e-3, 1e-3)) -> Any:
    parts = [
        SimpleNamespace(steps=count, learning_rate=rate, final_learning_rate=0.0, warmup=0)
        for count, rate in zip(steps, rates, strict=True)
    ]
    return SimpleNamespace(stages=parts)


@pytest.mark.parametrize(
    ("step", "now"),
    [(2, (4, 3)), (4, (4, 3)), (5, (4, 3)), (7, (4, 3)), (2, (2, 3)), (3, (9, 3)), (5, (4, 1)), (5, (4, 9)), (7, (4, 9))],
)
def test_a_run_goes_on_in_each_of_its_stages_and_one_that_is_not_over_may_change_its_length(step: int, now: tuple[int, int]) -> None:
    _check_stages(Path("run"), stages(4, 3), stages(*now), step)


@pytest.mark.parametrize(
    ("step", "now", "named"), [(3, (2, 3), "stages.0"), (5, (5, 3), "stages.0"), (5, (3, 3), "stages.0"), (7, (4, 2), "stages.1")]
)
def test_what_a_run_has_done_cannot_be_undone(step: int, now: tuple[int, int], named: str) -> None:
    with pytest.raises(UserError, match="the run has done") as caught:
        _check_stages(Path("run"), stages(4, 3), stages(*now), step)
    assert named in str(caught.value)


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_rate_changes_in_a_stage_that_is_not_over_alone(step: int) -> None:
    _check_stages(Path("run"), stages(4, 3), stages(4, 3, rates=(1e-3, 1e-4)), step)
    if step < 4:
        _check_stages(Path("run"), stages(4, 3), stages(4, 3, rates=(1e-4, 1e-3)), step)
    else:
        with pytest.raises(UserError, match=r"run: stages\.0\.learning_rate: the run is past that stage"):
            _check_stages(Path("run"), stages(4, 3), stages(4, 3, rates=(1e-4, 1e-3)), step)


def test_a_change_that_no_run_can_make_says_why_and_what_to_do() -> None:
    before, stage = recipe(), values()["stages"][0]
    more = recipe(stages=[stage, {**stage, "name": "third"}])
    with pytest.raises(UserError, match=r"the run has 1 stages, and this recipe 2\. Schedules .* follow from the stages\. .*model\.begin"):
        _check_told(Path("run"), _changes(before, more), more)
    other = recipe(data__mix=4)
    with pytest.raises(UserError, match=r"started with another data\.mix\. The run has followed it from the first step\. .*model\.begin"):
        _check_told(Path("run"), _changes(before, other), other)
    told = recipe(schedules={"momentum": "stage"}, sources={"schedules.momentum": "ours: set by the user"})
    _check_told(Path("run"), _changes(before, told), told)


def test_a_teacher_that_teaches_goes_on_when_the_run_becomes_longer() -> None:
    before = load_recipe("tips-nano")
    longer = load_recipe("tips-nano", ["stages.1.steps=7200"], resumed=before, done=15_600)
    first = math.ceil(first_taught(before))
    assert math.ceil(first_taught(longer)) == first and longer.steps == 19_200
    changes = _changes(before, longer)
    assert changes["method.teacher.start"] == (0.95, pytest.approx(first / 19_200)) and changes["stages.1.steps"] == (3600, 7200)
    _check_told(Path("run"), changes, longer)
    again = load_recipe("tips-nano", resumed=longer, done=16_000)
    assert _changes(longer, again) == {}
    more = load_recipe("tips-nano", ["stages.1.steps=9000"], resumed=longer, done=16_000)
    assert math.ceil(first_taught(more)) == first


def test_a_teacher_that_does_not_teach_yet_or_whose_start_is_told_starts_at_its_share_of_the_steps() -> None:
    before = load_recipe("tips-nano")
    assert load_recipe("tips-nano", ["stages.1.steps=7200"], resumed=before, done=12_000).method.teacher == before.method.teacher
    told = load_recipe("tips-nano", ["stages.1.steps=7200", "method.teacher.start=0.9"], resumed=before, done=15_600)
    assert first_taught(told) == pytest.approx(0.9 * 19_200)


@pytest.mark.parametrize("steps", [3, 7, 49, 15_601, 19_200])
def test_a_share_of_the_steps_gives_the_step_back(steps: int) -> None:
    assert all(math.ceil(start_at(step, steps) * steps) == step for step in range(0, steps, max(1, steps // 1000)))


def test_a_start_that_fails_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for run in (tmp_path / "runs" / "one", tmp_path / "of" / "mine" / "one"):
        with pytest.raises(UserError, match="no shards"), claimed(run, recipe(), resume=False):
            raise UserError("no shards")
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]
    with pytest.raises(UserError), claimed(tmp_path / "of" / "one", recipe(), resume=False):
        (tmp_path / "of" / "notes.txt").write_text("somebody else's")
        raise UserError("no shards")
    assert [path.name for path in (tmp_path / "of").iterdir()] == ["notes.txt"]
