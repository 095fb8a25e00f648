"""Runs that meet what a cluster does to them: bad samples, a clock, damaged files, settings that change; in one process."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.pretraining import recipe, write_shards
from tips_bench.errors import UserError
from tips_bench.registry import LOGGERS
from tips_bench.training import batches, checkpoint, claim, runs
from tips_bench.training.batches import Batch, TrainingData
from tips_bench.training.history import read_history
from tips_bench.training.log import read_log
from tips_bench.training.loop import _Run, train

CONTRASTIVE = {"weight": 1.0, "captions": [["web"], ["synthetic"]], "synthetic": "uniform", "temperature": 0.07}
ALONE = {"contrastive": CONTRASTIVE, "self_distillation": None, "patches": None, "teacher": None}
EVERY_STEP = {"log_every": 1, "checkpoint_every": 100}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"))


def learned(run: Path) -> dict[str, torch.Tensor]:
    folder = checkpoint.newest(run)
    assert folder is not None
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.fixture
def one_bad_sample(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The third batch that a run reads has an image that is no number; gives its name once it was read."""
    names: list[str] = []
    put_together = TrainingData._assembled

    def assembled(self: TrainingData, *args: Any) -> Batch:
        batch = put_together(self, *args)
        if self.report.drawn == 24:
            names.append(batch.names[5])
            pixels = batch.global_B3HW.float() / 255
            pixels[5] = torch.nan
            return batches.Batch(pixels, batch.locals, batch.texts, batch.mask_BP, batch.samples_B, batch.windows, batch.names)
        return batch

    monkeypatch.setattr(TrainingData, "_assembled", assembled)
    return names


def test_a_bad_sample_is_named_and_its_step_is_as_if_the_recipe_passed_over_it(
    shards: str, tmp_path: Path, one_bad_sample: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe(shards, steps=5, running=EVERY_STEP), tmp_path / "bad", device="cpu")
    (event,) = (line for line in read_log(tmp_path / "bad") if line.get("event") == "bad step")
    assert event["step"] == 3 and event["certain"] and event["samples"] == one_bad_sample
    assert f"step 3 changed nothing, the term 'self_distillation' is nan: because of {one_bad_sample[0]}" in capsys.readouterr().err
    assert [line["event"] for line in read_history(tmp_path / "bad")] == ["start", "bad step", "finished"]
    monkeypatch.undo()
    train(recipe(shards, steps=5, running=EVERY_STEP, data__skip_steps=[[3, 3]]), tmp_path / "told", device="cpu")
    assert [line["step"] for line in read_log(tmp_path / "told") if line.get("event") == "passed over"] == [3]
    wanted = learned(tmp_path / "told")
    assert all(torch.equal(value, wanted[name]) for name, value in learned(tmp_path / "bad").items())


def test_an_evaluation_that_is_due_at_a_bad_step_is_made_behind_it(shards: str, tmp_path: Path, one_bad_sample: list[str]) -> None:
    chosen = recipe(shards, steps=5, running={"log_every": 1}, evaluation={"every": 3, "task": "rooms-seg"})
    train(chosen, tmp_path / "run", device="cpu", evaluate=lambda part, model, out: {"miou": float(model.name[-1])})
    scored = [line for line in read_log(tmp_path / "run") if line.get("event") == "evaluation"]
    assert one_bad_sample and [(line["step"], line["metrics"]) for line in scored] == [(4, {"miou": 4.0}), (5, {"miou": 5.0})]


def test_a_sigterm_at_a_bad_step_waits_for_a_good_one(
    shards: str, tmp_path: Path, one_bad_sample: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Run, "_pass_over", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert train(recipe(shards, steps=8, running=EVERY_STEP), tmp_path / "run", device="cpu") == "preempted"
    assert one_bad_sample and [checkpoint.step_of(folder) for folder in checkpoint.whole_ones(tmp_path / "run")] == [4]


def test_a_run_that_goes_on_knows_what_its_log_tells_and_warns_once(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tips_bench.training.divergence.WINDOW", 4)
    monkeypatch.setattr("tips_bench.training.divergence._LEARNED", 9.0)
    still = {"method": ALONE, "running": {"log_every": 1, "checkpoint_every": 2}, "stages__0__warmup": 0}
    train(recipe(shards, steps=8, **still), tmp_path / "run", device="cpu")
    (line,) = (line for line in read_log(tmp_path / "run") if line.get("event") == "warning")
    assert line["step"] == 4 and line["said"].startswith("nothing learned yet: after 4 steps")
    assert "nothing learned yet" in caplog.text
    longer = recipe(shards, steps=12, sources={"stages.0.steps": "ours: set by the user"}, **still)
    train(longer, tmp_path / "run", resume=True, device="cpu")
    assert [line["step"] for line in read_history(tmp_path / "run") if line["event"] == "warning"] == [4]


def test_a_batch_and_the_patience_with_broken_shards_may_change_when_a_run_goes_on(shards: str, tmp_path: Path) -> None:
    common = {"method": ALONE, "running": EVERY_STEP, "stages__0__warmup": 0}
    train(recipe(shards, steps=3, **common), tmp_path / "run", device="cpu")
    told = {key: "ours: set by the user" for key in ("stages.0.steps", "stages.0.batch", "data.broken_shards")}
    now = recipe(shards, steps=6, stages__0__batch=6, data__broken_shards="skip", sources=told, **common)
    assert train(now, tmp_path / "run", resume=True, device="cpu") == "finished"
    (changed,) = (line for line in read_history(tmp_path / "run") if line["event"] == "changed")
    assert changed["values"]["stages.0.batch"] == [8, 6] and changed["values"]["data.broken_shards"] == ["stop", "skip"]
    newest = checkpoint.newest(tmp_path / "run")
    assert newest is not None and checkpoint.read_state(newest).data[0]["report"]["drawn"] == 3 * 8 + 3 * 6


def test_a_lost_run_goes_on_by_the_advice_it_is_given(shards: str, tmp_path: Path) -> None:
    run, common = tmp_path / "run", {"method": ALONE, "running": {"log_every": 1, "checkpoint_every": 2}, "stages__0__warmup": 0}
    lost = recipe(shards, steps=12, stages__0__learning_rate=1e30, **common)
    with pytest.raises(UserError, match=r"step 5: .* is nan, and so it was in 4 steps in a row.*--set stages\.0\.learning_rate=VALUE"):
        train(lost, run, device="cpu")
    assert checkpoint.newest(run) is None  # none of weights that give no numbers
    lower = recipe(shards, steps=12, stages__0__learning_rate=1e-3, sources={"stages.0.learning_rate": "ours: set by the user"}, **common)
    train(lower.model_copy(update={"stages": [lower.stages[0].model_copy(update={"steps": 4})]}), run, resume=True, device="cpu")
    told = {"stages.0.learning_rate": "ours: set by the user", "stages.0.steps": "ours: set by the user"}
    again = recipe(shards, steps=12, stages__0__learning_rate=5e-4, sources=told, **common)
    assert train(again, run, resume=True, device="cpu") == "finished"
    history = read_history(run)
    events = [line["event"] for line in history if line["event"] != "bad step"]
    assert events == ["start", "stopped", "start", "finished", "changed", "start", "finished"]
    card = (runs.export(run, tmp_path / "model").folder / "README.md").read_text()
    assert "changed: `stages.0.learning_rate` from 0.001 to 0.0005, `stages.0.steps` from 4 to 12" in card


def test_checkpoints_come_by_the_clock_too(shards: str, tmp_path: Path) -> None:
    running = {**EVERY_STEP, "checkpoint_minutes": 1e-9, "keep": 9}
    train(recipe(shards, steps=4, method=ALONE, running=running), tmp_path / "run", device="cpu")
    assert [checkpoint.step_of(folder) for folder in checkpoint.whole_ones(tmp_path / "run")] == [1, 2, 3, 4]


def test_losses_on_held_out_shards_are_logged_and_change_nothing(shards: str, tmp_path: Path) -> None:
    others = write_shards(tmp_path / "others", shards=1, samples=16)
    held_out = {"shards": [others], "every": 2, "batches": 2}
    with pytest.raises(UserError, match=r"data\.held_out\.shards: the shard train-000\.tar is trained on, too"):
        train(recipe(shards, data__held_out={**held_out, "shards": [shards]}), tmp_path / "same", device="cpu")
    with pytest.raises(UserError, match=r"data\.held_out: the shards hold 16 samples, and 24 are asked for"):
        train(recipe(shards, data__held_out={**held_out, "batches": 3}), tmp_path / "few", device="cpu")
    train(recipe(shards, steps=5, running=EVERY_STEP, data__held_out=held_out), tmp_path / "measured", device="cpu")
    train(recipe(shards, steps=5, running=EVERY_STEP), tmp_path / "plain", device="cpu")
    lines = [line for line in read_log(tmp_path / "measured") if "held_out/contrastive" in line]
    assert [line["step"] for line in lines] == [2, 4, 5] and "held_out/patches" in lines[0] and "held_out/temperature" not in lines[0]
    wanted = learned(tmp_path / "plain")
    assert all(torch.equal(value, wanted[name]) for name, value in learned(tmp_path / "measured").items())


def test_several_evaluations_are_made_beside_the_steps_and_one_that_fails_ends_nothing(shards: str, tmp_path: Path) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def evaluate(part: Any, model: Path, out: Path) -> dict[str, float]:
        asked.append((model.name, part.task, part.protocol))
        if part.task == "depth":
            raise UserError("the disk is full")
        return {"miou": 0.5}

    parts = [{"every": 2, "task": "rooms-seg"}, {"every": 3, "task": "depth"}, {"every": 4, "task": "rooms-seg", "protocol": "knn"}]
    train(recipe(shards, steps=4, method=ALONE, evaluation=parts), tmp_path / "run", device="cpu", evaluate=evaluate)
    assert asked == [
        ("step-00000002", "rooms-seg", None),
        ("step-00000003", "depth", None),
        ("step-00000004", "rooms-seg", None),
        ("step-00000004", "depth", None),
        ("step-00000004", "rooms-seg", "knn"),
    ]
    scored = [line for line in read_log(tmp_path / "run") if line.get("event") == "evaluation"]
    assert [line["step"] for line in scored] == [2, 3, 4, 4, 4] and scored[1]["fault"] == "the disk is full"
    log = tmp_path / "run" / "log.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if '"knn"' not in line))
    train(recipe(shards, steps=4, method=ALONE, evaluation=parts), tmp_path / "run", resume=True, device="cpu", evaluate=evaluate)
    # what had failed, and what a kill had left out
    assert asked[5:] == [("step-00000003", "depth", None), ("step-00000004", "depth", None), ("step-00000004", "rooms-seg", "knn")]


def test_scores_go_to_the_loggers_at_the_step_of_their_model_and_old_models_go(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, dict[str, float]]] = []

    class Noted:
        def __init__(self, *places: Path, **options: Any) -> None: ...

        def numbers(self, step: int, values: dict[str, float]) -> None:
            shown.append((step, {name: value for name, value in values.items() if name.startswith("evaluation/")}))

        def close(self) -> None: ...

    parts = [{"every": 1, "task": "rooms-seg"}, {"every": 2, "task": "rooms-seg", "protocol": "knn"}]
    running = {"loggers": ["noted"], "keep_models": 2}
    monkeypatch.setitem(LOGGERS._entries, "noted", Noted)
    chosen = recipe(shards, steps=4, method=ALONE, evaluation=parts, running=running)
    train(chosen, tmp_path / "run", device="cpu", evaluate=lambda part, model, out: {"miou": float(model.name[-1])})
    every, second = "evaluation/rooms-seg/miou", "evaluation/rooms-seg/knn/miou"
    assert [(step, values) for step, values in shown if values] == [
        (1, {every: 1}), (2, {every: 2}), (2, {second: 2}), (3, {every: 3}), (4, {every: 4}), (4, {second: 4})
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "run" / "evaluations").glob("step-*")) == ["step-00000003", "step-00000004"]


def test_a_rank_that_does_not_see_the_first_one_s_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SEEN_WITHIN_S", 0.0)
    with pytest.raises(UserError, match=r"does not see what the first rank has written here\. Give --out a folder on a disk that all"):
        claim.raise_if_not_shared(tmp_path)


def test_a_damaged_checkpoint_is_told_of(shards: str, tmp_path: Path) -> None:
    chosen = recipe(shards, steps=4, running={"checkpoint_every": 4})
    train(chosen, tmp_path / "run", device="cpu")
    newest = checkpoint.newest(tmp_path / "run")
    assert newest is not None
    file = next(newest.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"step-00000004: it does not fit the recipe or is damaged.*remove the checkpoint if it is damaged"):
        train(chosen, tmp_path / "run", resume=True, device="cpu")


@pytest.mark.parametrize("part", ["*.safetensors", "state.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    shards: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    chosen = recipe(shards, steps=6, running={"checkpoint_every": 2, "log_every": 1, "keep": 2})
    train(chosen, tmp_path / "run", device="cpu")
    wanted, newest = learned(tmp_path / "run"), checkpoint.newest(tmp_path / "run")
    assert newest is not None
    file = next(newest.glob(part))
    data = file.read_bytes()
    file.unlink()  # the tensors of before are views of it
    file.write_bytes(data[:-20])
    assert train(chosen, tmp_path / "run", resume=True, device="cpu") == "finished"
    found = learned(tmp_path / "run")
    assert found.keys() == wanted.keys() and all(torch.equal(value, wanted[name]) for name, value in found.items())
    lines = [line for line in read_history(tmp_path / "run") if line["event"] == "damaged checkpoint"]
    assert [(line["step"], line["checkpoint"]) for line in lines] == [(4, newest.name)]
    assert f"goes on from step 4, since {newest.name} (now damaged-{newest.name}) cannot be read" in (told := capsys.readouterr().err)
    assert "Traceback" not in told
    assert sorted(path.name for path in newest.parent.iterdir()) == [f"damaged-{newest.name}", "step-00000004", newest.name]
