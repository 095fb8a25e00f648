"""Whole runs from the command line: they learn, survive a kill bit for bit, stop when told or when lost, and are exported."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.helpers.pretraining import recipe, write_recipe, write_shards
from tips_bench import load_encoder
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.training import checkpoint, runs
from tips_bench.training.history import read_history
from tips_bench.training.log import read_log
from tips_bench.training.loop import train
from tips_bench.training.step import Learner

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def finished(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    assert train(recipe(shards, running={"checkpoint_every": 10, "keep": 2, "log_every": 1}), run, device="cpu") == "finished"
    return run


def learned(run: Path) -> dict[str, torch.Tensor]:
    """Everything in a run's newest checkpoint."""
    folder = checkpoint.newest(run)
    assert folder is not None
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tips_bench", "train", *arguments, "--device", "cpu"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    for _ in range(4000):
        if (run / "log.jsonl").is_file() and any(line["step"] >= step for line in read_log(run)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("the run does not come on")


def test_twenty_steps_on_coloured_noise_lower_the_contrastive_loss(shards: str, tmp_path: Path) -> None:
    only = {"self_distillation": None, "patches": None, "teacher": None}
    contrastive = {"weight": 1.0, "captions": [["web"], ["synthetic"]], "synthetic": "uniform", "temperature": 0.07}
    chosen = recipe(shards, steps=20, method={"contrastive": contrastive, **only}, stages__0__learning_rate=3e-3)
    train(chosen, tmp_path / "run", device="cpu")
    losses = [line["contrastive"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.5


def test_the_student_comes_closer_to_its_teacher(finished: Path) -> None:
    """A cross-entropy holds the teacher's own entropy too, which rises while its centre settles; what is left is the distance."""
    lines = [line for line in read_log(finished) if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 21))
    distances = [line["patches"] - line["entropy/patches"] for line in lines]
    assert min(distances) > 0 and sum(distances[-5:]) < 0.8 * sum(distances[:5])
    assert sum(line["contrastive"] for line in lines[-5:]) < sum(line["contrastive"] for line in lines[:5])


def test_a_log_tells_of_every_term_of_speed_and_of_memory(finished: Path) -> None:
    last = [line for line in read_log(finished) if "loss" in line][-1]
    losses = {"loss", "contrastive", "contrastive/0", "contrastive/1", "self_distillation", "patches"}
    notes = {f"{note}/{part}" for note in ("entropy", "mean_entropy", "center_norm") for part in ("self_distillation", "patches")}
    rates = {"learning_rate", "weight_decay", "momentum", "temperature", "grad_norm", "images_per_s", "memory_mb", "skipped_samples"}
    assert set(last) == {"step"} | losses | notes | rates
    assert last["loss"] == pytest.approx(last["contrastive"] + last["self_distillation"] + 2 * last["patches"], rel=1e-5)
    assert [line["event"] for line in read_log(finished) if "event" in line] == ["start", "checkpoint", "checkpoint", "finished"]


def test_a_run_killed_at_once_and_resumed_in_another_process_ends_with_the_same_bits(shards: str, tmp_path: Path) -> None:
    """With drop path and text dropout. The run is killed in one process, and in another it goes on and is made as a whole."""
    changes: dict[str, Any] = {"model__dropout": {"path": 0.3, "text": 0.1}, "running": {"checkpoint_every": 4, "log_every": 1}}
    path = write_recipe(tmp_path / "tiny.yaml", shards, steps=24, **changes)
    killed = start(tmp_path, path.name, "--out", "killed")
    wait_for_step(tmp_path / "killed", 6, killed)
    killed.kill()
    killed.communicate()
    chosen = recipe(shards, steps=24, **changes)
    assert train(chosen, tmp_path / "whole", device="cpu") == "finished"
    newest = checkpoint.newest(tmp_path / "killed")
    assert newest is not None and newest.name != "step-00000024"
    assert train(chosen, tmp_path / "killed", resume=True, device="cpu") == "finished"
    wanted, found = learned(tmp_path / "whole"), learned(tmp_path / "killed")
    assert set(wanted) == set(found) and all(torch.equal(found[name], value) for name, value in wanted.items())
    timed = ("images_per_s", "memory_mb")
    logs = [
        [{name: value for name, value in line.items() if name not in timed} for line in read_log(tmp_path / run) if "loss" in line]
        for run in ("whole", "killed")
    ]
    assert logs[0] == logs[1]


def test_a_sigterm_to_all_its_processes_leaves_a_checkpoint_and_exit_status_0(shards: str, tmp_path: Path) -> None:
    running = {"checkpoint_every": 5000, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", shards, steps=5000, running=running, data__workers=1)
    process = start(tmp_path, path.name)
    wait_for_step(tmp_path / "runs" / "tiny", 3, process)
    for reader in psutil.Process(process.pid).children(recursive=True):
        reader.terminate()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("preempted")
    newest = checkpoint.newest(tmp_path / "runs" / "tiny")
    assert newest is not None and checkpoint.read_state(newest).step == read_log(tmp_path / "runs" / "tiny")[-1]["step"] >= 3


def test_ctrl_c_leaves_a_checkpoint_and_a_second_one_ends_at_once(shards: str, tmp_path: Path) -> None:
    running = {"checkpoint_every": 5000, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", shards, steps=5000, running=running, data__workers=1)
    process = start(tmp_path, path.name)
    wait_for_step(tmp_path / "runs" / "tiny", 3, process)
    for one in (*psutil.Process(process.pid).children(recursive=True), process):
        one.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "this step is finished and saved first" in err and "interrupted" in err, err
    newest = checkpoint.newest(tmp_path / "runs" / "tiny")
    assert newest is not None and checkpoint.read_state(newest).step == read_log(tmp_path / "runs" / "tiny")[-1]["step"] >= 3
    assert read_history(tmp_path / "runs" / "tiny")[-1]["event"] == "preempted"


def test_a_checkpoint_that_was_not_finished_is_passed_over(finished: Path, shards: str, tmp_path: Path) -> None:
    chosen = recipe(shards, steps=8, running={"checkpoint_every": 4, "log_every": 1})
    train(chosen, tmp_path / "run", device="cpu")
    wanted = learned(tmp_path / "run")
    newest = checkpoint.newest(tmp_path / "run")
    assert newest is not None
    newest.rename(newest.with_name(f".{newest.name}.tmp"))
    assert train(chosen, tmp_path / "run", resume=True, device="cpu") == "finished"
    assert all(torch.equal(value, wanted[name]) for name, value in learned(tmp_path / "run").items())
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


def test_a_run_with_muon_is_resumed_with_the_same_bits(shards: str, tmp_path: Path) -> None:
    muon = {"type": "muon", "momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8}
    chosen = recipe(shards, steps=6, optimizer__rule=muon, running={"checkpoint_every": 3, "log_every": 1})
    train(chosen, tmp_path / "run", device="cpu")
    wanted, newest = learned(tmp_path / "run"), checkpoint.newest(tmp_path / "run")
    assert newest is not None and "optimizer.vision.blocks.0.attn.qkv.weight.momentum" in wanted
    shutil.rmtree(newest)
    assert train(chosen, tmp_path / "run", resume=True, device="cpu") == "finished"
    found = learned(tmp_path / "run")
    assert found.keys() == wanted.keys() and all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_a_run_that_blows_up_says_which_term(shards: str, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "tiny.yaml", shards, steps=50, stages__0__learning_rate=1e30, stages__0__warmup=0)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert done.exit_code == 2
    assert "step 5: the term" in done.stderr and "Lower the learning rate" in done.stderr
    assert [line["loss"] for line in read_log(tmp_path / "run") if "loss" in line][1:] == [None] * 4


def test_a_run_is_not_begun_twice_nor_resumed_with_another_recipe(finished: Path, shards: str) -> None:
    with pytest.raises(UserError, match="this folder already contains a run"):
        train(recipe(shards), finished, device="cpu")
    with pytest.raises(UserError, match=r"another optimizer\.clip_norm"):
        train(recipe(shards, optimizer__clip_norm=1.0), finished, resume=True, device="cpu")


def test_a_run_goes_on_with_other_readers_and_with_its_shards_in_another_place(finished: Path, shards: str, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", Path(shards).parent.rename(tmp_path / "moved") / Path(shards).name
    try:
        shutil.copytree(finished, run)
        assert train(recipe(str(moved), data__workers=1, method__contrastive__chunk=5), run, resume=True, device="cpu") == "finished"
        write_shards(tmp_path / "others", samples=60)
        with pytest.raises(UserError, match="other shards"):
            train(recipe(str(tmp_path / "others" / moved.name)), run, resume=True, device="cpu")
    finally:
        (tmp_path / "moved").rename(Path(shards).parent)


def test_a_place_that_is_a_file_and_a_device_that_is_none_are_one_sentence(shards: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=r"taken: this is a file, not a folder\. Give another --out\."):
        train(recipe(shards), tmp_path / "taken", device="cpu")
    with pytest.raises(UserError, match="device: 'gpu' is not a device"):
        train(recipe(shards), tmp_path / "run", device="gpu")


def test_memory_that_does_not_suffice_and_a_reader_that_died_in_a_step_are_one_sentence(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising(error: Exception) -> Callable[..., Any]:
        def step(*_: object) -> Any:
            raise error

        return step

    for error, words in (
        (torch.OutOfMemoryError("CUDA out of memory"), r"running\.micro_batch = 4: the GPU does not have enough memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), r"data\.workers: a process .* was killed"),
    ):
        monkeypatch.setattr(Learner, "step", raising(error))
        with pytest.raises(UserError, match=words):
            train(recipe(shards, running={"micro_batch": 4}), tmp_path / type(error).__name__, device="cpu")
    monkeypatch.setattr(Learner, "step", raising(RuntimeError("of another kind")))
    with pytest.raises(RuntimeError, match="of another kind"):
        train(recipe(shards), tmp_path / "other", device="cpu")


def test_stages_change_the_resolution_and_the_rate(shards: str, tmp_path: Path) -> None:
    common = {"batch": 8, "local_px": 28, "final_learning_rate": 1e-5, "warmup": 1}
    stages = [
        {"name": "low", "steps": 3, "global_px": 56, "learning_rate": 1e-3, **common},
        {"name": "high", "steps": 3, "global_px": 84, "learning_rate": 1e-4, **common},
    ]
    train(recipe(shards, stages=stages, running={"log_every": 1}), tmp_path / "run", device="cpu")
    rates = [line["learning_rate"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert rates[0] == pytest.approx(1e-3) and rates[3] == pytest.approx(1e-4) and rates[5] == pytest.approx(1e-5)


def test_an_export_is_read_by_this_project_and_by_transformers_alike(finished: Path, tmp_path: Path) -> None:
    from transformers import Tipsv2Model

    done = CliRunner().invoke(app, ["export", str(finished), "--to", str(tmp_path / "tiny")])
    assert done.exit_code == 0 and done.output.startswith("step 20")
    encoder = load_encoder(tmp_path / "tiny", device="cpu")
    pixels = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    theirs = Tipsv2Model.from_pretrained(tmp_path / "tiny").eval()
    with torch.no_grad():
        seen = theirs.vision_model(pixels).last_hidden_state
    ours = encoder.encode_image(pixels)
    torch.testing.assert_close(ours.globals_BKD, seen[:, :2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.patches[0].flatten(1, 2), seen[:, 2:], rtol=1e-5, atol=1e-5)
    assert encoder.encode_text(["red stuff", "a green picture"]).shape == (2, 32)
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    last = [line for line in read_log(finished) if "loss" in line][-1]
    assert config["temperature_init_value"] == pytest.approx(last["temperature"], rel=1e-2)


def test_a_checkpoint_that_was_kept_can_be_exported(finished: Path, tmp_path: Path) -> None:
    def exported(*step: str) -> Any:
        return CliRunner().invoke(app, ["export", str(finished), "--to", str(tmp_path / "_".join(step or ["newest"])), *step])

    assert "step 10 " in exported("--step", "10").stdout and "step 20 " in exported().stdout
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "--step_10", tmp_path / "newest"))
    assert not torch.equal(before["vision_encoder.norm.weight"], after["vision_encoder.norm.weight"])
    refused = exported("--step", "15")
    assert refused.exit_code == 2 and not (tmp_path / "--step_15").exists()
    with pytest.raises(UserError, match=r"no checkpoint of step 15\. It has kept 10, 20\."):
        runs.export(finished, tmp_path / "no", step=15)


def test_half_precision_halves_the_file_and_little_else(finished: Path, tmp_path: Path) -> None:
    for stored in ("fp32", "fp16"):
        done = CliRunner().invoke(app, ["export", str(finished), "--to", str(tmp_path / stored), "--stored", stored])
        assert done.exit_code == 0
    whole, half = (tmp_path / stored / "model.safetensors" for stored in ("fp32", "fp16"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    pixels = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    before, after = (load_encoder(tmp_path / stored, device="cpu").encode_image(pixels).globals_BKD for stored in ("fp32", "fp16"))
    torch.testing.assert_close(after, before, rtol=0, atol=5e-3)
    assert not torch.equal(after, before)


def test_a_running_mean_can_be_exported_where_there_is_one(finished: Path, shards: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no encoder of its own to export"):
        runs.export(finished, tmp_path / "no", weights="teacher")
    chosen = recipe(shards, steps=4, method__teacher={"kind": "ema", "momentum": [0.9, 0.9]})
    train(chosen, tmp_path / "run", device="cpu")
    tensors = learned(tmp_path / "run")
    for weights in ("student", "teacher"):
        runs.export(tmp_path / "run", tmp_path / weights, weights=weights)  # type: ignore[arg-type]
        written = load_file(tmp_path / weights / "model.safetensors")
        assert torch.equal(written["vision_encoder.norm.weight"], tensors[f"{weights}.vision.norm.weight"])
    assert not torch.equal(tensors["student.vision.norm.weight"], tensors["teacher.vision.norm.weight"])


def test_a_run_begins_with_towers_that_are_there(finished: Path, shards: str, tmp_path: Path) -> None:
    export, run = tmp_path / "tiny", tmp_path / "run"
    runs.export(finished, export)
    changes: dict[str, Any] = {
        "model__begin": {"vision": str(export), "text": str(export)},
        "data__tokenizer": {"file": str(export / "tokenizer.model")},
        "stages__0__learning_rate": 1e-12,
        "stages__0__final_learning_rate": 1e-12,
    }
    assert train(recipe(shards, steps=4, **changes), run, device="cpu") == "finished"
    before, after = learned(finished), learned(run)
    towers = [name for name in before if name.startswith(("student.vision.", "student.text.")) or name == "student.log_temperature"]
    assert len(towers) > 30
    for name in towers:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)
    assert not torch.equal(after["student.heads.patches.prototypes"], before["student.heads.patches.prototypes"])
    with pytest.raises(ValueError, match="need the tokenizer they were trained with"):
        recipe(shards, **{**changes, "data__tokenizer": {"train_on": 200}})
    with pytest.raises(UserError, match="1 block"):
        train(recipe(shards, **changes, model__vision__depth=1), tmp_path / "no", device="cpu")


def test_a_smaller_model_learns_from_a_frozen_run(finished: Path, shards: str, tmp_path: Path) -> None:
    small = {"name": "small", "embed_dim": 16, "num_heads": 2, "mlp_dim": 32}
    changes: dict[str, Any] = {
        "method__teacher": {"kind": "frozen", "run": str(finished)},
        "method__patches__mask": None,
        "model__vision": {**small, "depth": 1, "patch_size": 14, "position_grid": [4, 4]},
        "model__text": {**small, "depth": 1, "vocab_size": 40},
    }
    train(recipe(shards, steps=5, **changes), tmp_path / "run", device="cpu")
    wanted, found = learned(finished), learned(tmp_path / "run")
    # the encoder was shared there, the heads were a running mean; neither moves any more
    assert torch.equal(found["teacher.vision.norm.weight"], wanted["student.vision.norm.weight"])
    assert torch.equal(found["teacher.heads.patches.prototypes"], wanted["teacher.heads.patches.prototypes"])
    assert found["student.vision.norm.weight"].shape == (16,)
    with pytest.raises(UserError, match="32 prototypes, and the teacher's has 64"):
        runs.frozen_teacher(recipe(shards, **changes, method__patches__head__prototypes=32))


def test_evaluations_are_made_on_the_way_from_what_was_saved(shards: str, tmp_path: Path) -> None:
    asked = []

    def evaluate(part: Any, model: Path, out: Path) -> dict[str, float]:
        asked.append((part.task, load_encoder(model, device="cpu").spec.embed_dim, out.name))
        return {"miou": 0.5}

    chosen = recipe(shards, steps=4, evaluation={"every": 2, "task": "rooms-seg"})
    train(chosen, tmp_path / "run", device="cpu", evaluate=evaluate)
    assert asked == [("rooms-seg", 32, "records")] * 2
    events = [line for line in read_log(tmp_path / "run") if line.get("event") == "evaluation"]
    assert [(line["step"], line["metrics"]) for line in events] == [(2, {"miou": 0.5}), (4, {"miou": 0.5})]


def test_a_run_scores_itself_by_a_task_card(shards: str, shapes: Path) -> None:
    evaluation = {"every": 3, "task": "shapes", "overrides": ["image.short_side=84", "probe.max_patches=600"]}
    path = write_recipe(shapes / "tiny.yaml", shards, steps=3, stages__0__warmup=1, evaluation=evaluation)
    done = CliRunner().invoke(app, ["train", str(path), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    (event,) = (line for line in read_log(shapes / "runs" / "tiny") if line.get("event") == "evaluation")
    (record,) = (shapes / "runs" / "tiny" / "evaluations" / "records").rglob("*convex*.json")
    assert event["metrics"]["mIoU"] == json.loads(record.read_text())["metrics"]["mIoU"]["value"] > 5


def test_what_could_not_be_used_is_told_of_at_the_end(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path / "shards", shards=1)
    with tarfile.open(tmp_path / "shards" / "train-000.tar", "a") as tar:
        for name, data in (("broken.png", b"no image"), ("broken.json", b'{"web": "red", "synthetic": "a red one"}')):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    path = write_recipe(tmp_path / "tiny.yaml", pattern, steps=6)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "run"), "--device", "cpu"])
    assert done.exit_code == 0 and "tiny: skipped 1 of" in done.stderr and "train-000.tar" in done.stderr
    last = [line for line in read_log(tmp_path / "run") if line.get("event") == "checkpoint"][-1]
    assert last["skipped"] == 1 and list(last["faults"].values()) == [1]
