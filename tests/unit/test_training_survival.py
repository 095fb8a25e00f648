"""What ends a run and what does not: bad steps, collapse, divergence, ranks that are missing; and what is only measured."""

from __future__ import annotations

import json
import math
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.pretraining import ALONE, random_batch, recipe, rows_of
from tips_bench.errors import UserError
from tips_bench.ranks import World
from tips_bench.training import checkpoint, watchdog
from tips_bench.training.bad_steps import BadSteps
from tips_bench.training.divergence import DivergenceMonitor
from tips_bench.training.held_out import suspects
from tips_bench.training.recipe_beside import BadStepsPart
from tips_bench.training.step import Learner
from tips_bench.training.watchdog import Place, Watchdog, tell_missing

ROOT = Path(__file__).resolve().parents[2]
TOLD_APART = {"entropy/patches": 1.0, "mean_entropy/patches": 2.0}
ALIKE = {"entropy/patches": 1.9999, "mean_entropy/patches": 2.0}
NOTHING = {"entropy/patches": 2.0, "mean_entropy/patches": 2.0}
NAN = {"loss": math.nan}


def monitor(window: int = 3, **changes: Any) -> DivergenceMonitor:
    return DivergenceMonitor(recipe(**changes), window)


def test_a_teacher_that_told_images_apart_and_stops_has_collapsed() -> None:
    watch = monitor()
    for step, report in enumerate([ALIKE, ALIKE, ALIKE, TOLD_APART, ALIKE, ALIKE], 1):
        watch.check(step, report)
    with pytest.raises(UserError, match="step 7: the teacher of 'patches' has collapsed, its targets are the same") as found:
        watch.check(7, ALIKE)
    assert "--set method.patches.sharpening.teacher=VALUE" in str(found.value)
    assert "--resume --set stages.0.learning_rate=VALUE, from a checkpoint of step 4 or earlier" in str(found.value)


def test_a_teacher_that_never_said_anything_has_collapsed_as_soon_whatever_the_warm_up_is() -> None:
    watch = monitor(steps=200_000, stages__0__warmup=79_360)
    watch.check(1, NOTHING)
    watch.check(2, NOTHING)
    with pytest.raises(UserError, match="for 3 steps its targets did not depend on the image"):
        watch.check(3, NOTHING)
    with pytest.raises(UserError, match="one prototype has taken all"):
        monitor(1).check(1, {"entropy/self_distillation": 0.0, "mean_entropy/self_distillation": 0.0})


def test_no_teacher_of_the_shipped_model_s_own_run_is_called_collapsed() -> None:
    """Its log has every hundredth step; each stands for a window here."""
    watch = monitor(1)
    lines = [json.loads(line) for line in (ROOT / "model_zoo" / "tips-nano" / "log.jsonl").read_text().splitlines()]
    told = [line for line in lines if "entropy/patches" in line]
    assert len(told) > 5
    for line in told:
        watch.check(line["step"], {name: value for name, value in line.items() if name.startswith(("entropy/", "mean_entropy/"))})


def test_a_contrastive_loss_that_comes_back_ends_a_run_and_a_spike_does_not() -> None:
    chance = math.log(8)
    watch = monitor(200)
    losses = [chance] * 100 + [0.4] * 100 + [chance] * 30 + [0.4] * 100
    for step, loss in enumerate(losses, 1):
        watch.check(step, {"contrastive": loss})
    with pytest.raises(UserError, match=r"the contrastive loss was 0\.4, and for 200 steps near 2\.08; 2\.08 is chance") as found:
        for step in range(331, 1000):
            watch.check(step, {"contrastive": chance})
    assert "from a checkpoint of step 2" in str(found.value), "it came back at step 331"


@pytest.mark.parametrize("rise", [1, 100])
def test_the_step_that_is_named_as_sound_is_before_the_loss_began_to_rise(rise: int) -> None:
    chance, low, begins = math.log(8), 0.4, 1001
    watch = monitor(300)
    with pytest.raises(UserError) as found:
        for step in range(1, 3000):
            watch.check(step, {"contrastive": low + (chance - low) * min(max(step + 1 - begins, 0) / rise, 1)})
    named = re.search(r"from a checkpoint of step (\d+)", str(found.value))
    assert named is not None and begins - 60 < int(named[1]) < begins


def test_a_stage_that_is_near_chance_from_its_first_step_is_warned_of() -> None:
    chosen = recipe()
    first = chosen.stages[0].model_copy(update={"steps": 400, "warmup": 10})
    watch = DivergenceMonitor(chosen.model_copy(update={"stages": [first, first.model_copy(update={"name": "second"})]}))
    said = [watch.check(step, {"contrastive": 0.4 if step <= 400 else math.log(8)}, stage=int(step > 400)) for step in range(1, 801)]
    (warning,) = filter(None, said)
    assert warning.startswith("nothing learned yet in stage 'second': after 305 steps the contrastive loss is 2.08")


def test_the_newest_checkpoint_from_before_a_loss_came_back_stays_until_the_loss_falls_again(tmp_path: Path) -> None:
    chance, watch, left = math.log(8), monitor(10_000), {}
    losses = [chance] * 100 + [0.4] * 100 + [chance] * 300 + [0.4] * 200
    for step, loss in enumerate(losses, 1):
        watch.check(step, {"contrastive": loss})
        if step % 50 == 0:
            with checkpoint.alone_on_purpose():
                checkpoint.save(tmp_path, ALONE, {}, step, {}, keep=2, sound=watch.sound(step))
            left[step] = [checkpoint.step_of(path) for path in checkpoint.whole_ones(tmp_path)]
    assert left[200] == [150, 200]
    assert left[500] == [150, 450, 500], "of a mean over 50 steps it is not known when within them it began to rise"
    assert left[700] == [650, 700]


def told(watch: DivergenceMonitor, losses: list[float], name: str = "contrastive", first: int = 1) -> list[str]:
    """The warnings for a loss, step by step."""
    return [said for step, loss in enumerate(losses, first) if (said := watch.check(step, {name: loss}))]


def test_a_loss_that_learns_nothing_is_warned_of_once_and_one_that_falls_is_not() -> None:
    chance = math.log(8)
    (said,) = told(monitor(200), [chance - 0.05] * 2000)
    assert said.startswith("nothing learned yet: after 202 steps the contrastive loss is 2.03, and 2.08 is that of a model")
    assert told(monitor(200), [chance] * 100 + [chance - 0.2] * 2000) == []
    (said,) = told(monitor(200, steps=20_000, stages__0__warmup=10_000), [chance] * 3000)
    assert "after 2000 steps" in said  # so early in a long warm-up as much is learned as in 200 steps at the highest rate


@pytest.mark.parametrize(
    "losses",
    [[2.1] + [20.8] * 400, [2.08] * 100 + [20.8] * 300, [2.08] * 100 + [1.7] * 100 + [5.1] * 300],
    ids=["from the start", "before it fell", "after it fell a little"],
)
def test_a_loss_far_above_chance_ends_a_run_in_hundreds_of_steps(losses: list[float]) -> None:
    with pytest.raises(UserError, match=r"the loss 'contrastive' has diverged: .*--resume --set stages\.0\.learning_rate=VALUE"):
        told(monitor(200), losses)


def test_a_loss_over_prototypes_that_rises_alone_ends_a_run() -> None:
    watch, chance = monitor(200), math.log(64)
    report = {"contrastive": 1.0, **TOLD_APART}
    for step in range(1, 400):
        watch.check(step, {**report, "patches": chance + 0.9})  # while the centre settles
    with pytest.raises(
        UserError, match=r"the loss 'patches' has diverged: for 200 steps it was far above 4\.16, which is chance, and is now 41\.6"
    ):
        for step in range(400, 700):
            watch.check(step, {**report, "patches": 10 * chance})


def test_first_losses_that_are_high_and_fall_are_no_divergence() -> None:
    assert told(monitor(200), [5.0 - 0.02 * step for step in range(220)]) == []


def test_what_a_log_tells_is_known_when_a_run_goes_on() -> None:
    chance = math.log(8)
    fallen = [{"step": step, "event": "checkpoint"} for step in (5, 10)]
    fallen += [{"step": step, "loss": None, "contrastive": None} for step in (11, 12)]
    fallen += [{"step": step, "loss": 0.4, "contrastive": 0.4} for step in range(1, 200, 10)]
    watch = monitor(200, steps=1000)
    watch.take_up(sorted(fallen, key=lambda line: line["step"]))
    with pytest.raises(UserError, match=r"step 4\d\d: the contrastive loss was 0\.4, and for 200 steps near"):
        told(watch, [chance] * 300, first=192)
    watch = monitor(200, steps=1000)
    watch.take_up([{"step": step, "loss": chance, "contrastive": chance} for step in range(100, 700, 100)])
    assert told(watch, [chance] * 300, first=700) == []  # it was warned of before


def test_a_temperature_that_ran_away_names_the_stage_it_is_in() -> None:
    with pytest.raises(UserError, match=r"temperature has diverged to 1e-05.*--resume --set stages\.1\.learning_rate=VALUE"):
        monitor().check(7, {"loss": 1.0, "temperature": 1e-5}, stage=1)


def test_bad_steps_end_a_run_when_there_are_too_many_in_a_row_or_together() -> None:
    bad = BadSteps(BadStepsPart(in_a_row=2, share=0.005))
    for step in (1, 2):
        bad.check(step, bad.fault(NAN) or "", "stages.0.learning_rate")
    assert bad.fault({"loss": 1.0}) is None and bad.in_a_row == 0
    for step in (4, 5):
        bad.check(step, bad.fault(NAN) or "", "stages.0.learning_rate")
    with pytest.raises(UserError, match=r"step 6: .* 3 steps in a row.*--set data\.skip_steps='\[\[4,6\]\]'"):
        bad.check(6, bad.fault(NAN) or "", "stages.0.learning_rate")
    bad = BadSteps(BadStepsPart(in_a_row=2, share=0.005))
    with pytest.raises(UserError, match="and 6 of the last 11 steps were like that"):
        for step in range(1, 100):
            fault = bad.fault(NAN if step % 2 else {"loss": 1.0})
            if fault:
                bad.check(step, fault, "stages.0.learning_rate")


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({"loss": math.nan, "patches": math.inf}, "the term 'patches' is inf"),
        ({"loss": 1.0, "grad_norm": math.inf}, "the norm of the gradient is inf"),
        ({"loss": 1.0}, None),
    ],
)
def test_a_bad_step_says_by_which_term(report: dict[str, float], says: str | None) -> None:
    assert BadSteps(BadStepsPart()).fault(report) == says


def test_the_samples_of_a_bad_step_are_named() -> None:
    learner = Learner(recipe(running={"micro_batch": 4}), ALONE)
    batch = random_batch()
    batch.names.extend(f"train-000.tar: {row:04d}" for row in range(8))
    assert suspects(learner, batch, 0) == []
    batch.locals[0][1] = torch.nan  # seen by the losses alone, of a piece of four images
    assert suspects(learner, batch, 0) == batch.names[:4]
    batch.global_B3HW[[2, 5], 0, 0, 0] = torch.nan
    assert suspects(learner, batch, 0) == ["train-000.tar: 0002", "train-000.tar: 0005"]


def test_losses_that_are_only_measured_are_those_of_a_step_and_change_nothing() -> None:
    for running in ({}, {"micro_batch": 3}):
        learner, twin = (Learner(recipe(running=running), ALONE) for _ in range(2))
        measured = learner.losses(random_batch(seed=5), 0)
        report, plain = learner.step(random_batch(), 0), twin.step(random_batch(), 0)
        assert report == plain
        found = twin.losses(random_batch(seed=1), 1)
        report = twin.step(random_batch(seed=1), 1)
        assert set(found) == set(measured) <= set(report)
        for name, value in found.items():
            assert float(value) == pytest.approx(report[name], rel=1e-5), name
    assert rows_of(random_batch(), slice(0, 2)).samples_B.tolist() == [0, 1]


def test_a_watchdog_tells_the_ranks_that_are_silent_from_those_that_are_behind() -> None:
    own = Place(9, 12, "computing")
    before = {rank: Place(tick, 12, "computing") for rank, tick in enumerate((5, 5, 5))}
    after = {0: Place(7, 12, "computing"), 1: Place(5, 12, "computing"), 2: Place(7, 12, "computing")}
    assert tell_missing(own, 3, before, after) == "rank 1 does not answer any more"
    after |= {1: Place(7, 12, "reading")}
    assert tell_missing(own, 3, before, after) == "rank 1 waits for its data, at step 12"
    after |= {1: Place(7, 11, "computing")}
    assert tell_missing(own, 3, before, after) == "rank 1 is still computing, at step 11"
    after |= {1: Place(7, 12, "computing")}
    assert tell_missing(own, 3, before, after) == "all ranks answer, and all are at the same place"
    del before[1], after[1]  # it froze before it told anything
    assert tell_missing(own, 3, before, after) == "rank 1 does not answer any more"
    assert Place.parse("3 4 reading") == Place(3, 4, "reading")


def test_a_watchdog_tells_who_holds_up_the_start_and_the_end_of_a_run() -> None:
    before = {rank: Place(5, 0, "starting") for rank in range(2)}
    after = {0: Place(7, 0, "indexing"), 1: Place(7, 0, "starting")}
    assert tell_missing(Place(7, 0, "starting"), 2, before, after).startswith("rank 0 is reading the headers of shards")
    after = {0: Place(7, 9, "computing"), 1: Place(7, 9, "ending")}
    assert tell_missing(Place(7, 9, "ending"), 2, before, after) == "rank 0 is still computing, at step 9"


def test_a_watchdog_does_not_wait_for_a_store_that_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen:
        def check(self, keys: list[str]) -> bool:
            return threading.Event().wait()

    monkeypatch.setattr(watchdog, "_ANSWER_S", 0.05)
    watch = Watchdog(World(1, 2, "cpu"), 0.1)
    monkeypatch.setattr(watch, "_store", Frozen(), raising=False)
    assert watch.missing() == "the store that the ranks share does not answer"
