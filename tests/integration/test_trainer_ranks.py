"""Two processes on one machine learn what one does: DDP and FSDP, whole batches and pieces, runs that are stopped and resumed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.pretraining import ALONE, recipe, values, write_recipe, write_shards
from tests.helpers.ranks import learn
from tests.helpers.torchrun import finish_torchrun, ranks_of, start_torchrun, torchrun
from tips_bench.training import checkpoint
from tips_bench.training.history import read_history
from tips_bench.training.log import read_log

ROOT = Path(__file__).resolve().parents[2]


ADAFACTOR = {"type": "adafactor", "decay": -0.8, "clip": 1.0, "beta1": 0.9}
MUON = {"type": "muon", "momentum": 0.95, "betas": [0.9, 0.999], "eps": 1e-8}
FULL = {"kind": "ema", "momentum": [0.9, 1.0]}
DROPOUT = {"path": 0.3, "path_growth": "uniform", "text": 0.1}
WAYS: dict[str, dict[str, Any]] = {
    "ddp": {"running": {"parallel": "ddp"}},
    "ddp with windows": {
        "running": {"parallel": "ddp", "text_groups": 3},
        "model__positions": "window",
        "model__vision__position_grid": [6, 6],
    },
    "ddp in pieces": {"running": {"parallel": "ddp", "micro_batch": 2}, "method__teacher": FULL, "model__dropout": DROPOUT},
    "fsdp": {"running": {"parallel": "fsdp"}, "method__teacher": FULL},
    "fsdp in pieces of another grid": {
        "running": {"parallel": "fsdp", "micro_batch": 2},
        "model__vision__position_grid": [6, 6],
        "method__teacher": FULL,
    },
    "fsdp in pieces": {
        "running": {"parallel": "fsdp", "micro_batch": 1, "activation_checkpointing": True},
        "optimizer__rule": ADAFACTOR,
        "model__dropout": DROPOUT,
    },
}
# Momentum in bfloat16: a gradient that is rounded otherwise moves each of three updates of 1e-3 by up to 1/256 of it.
MUON_WAYS: dict[str, dict[str, Any]] = {"fsdp with muon": {"running": {"parallel": "fsdp"}, "optimizer__rule": MUON}}
ROUNDING = dict.fromkeys(["fsdp in pieces", "hsdp in pieces"], 1e-5 + 3 * 1e-3 / 256)


def learned(folder: Path, ways: dict[str, dict[str, Any]], steps: int, ranks: int = 2) -> dict[str, Any]:
    """What the ranks learn in each way."""
    (folder / "recipes.json").write_text(json.dumps({name: values(**changes) for name, changes in ways.items()}))
    script = str(ROOT / "tests" / "helpers" / "ranks.py")
    done = torchrun(ranks, script, str(folder / "out.pt"), str(folder / "recipes.json"), str(steps), cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "out.pt", weights_only=True)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return learned(tmp_path_factory.mktemp("ranks"), WAYS | MUON_WAYS, 3)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_four_ranks_that_share_a_model_two_by_two_learn_what_one_does(tmp_path: Path) -> None:
    hsdp = {"parallel": "hsdp", "shard_ranks": 2}
    ways = {
        "hsdp": {"running": hsdp, "method__teacher": FULL},
        "hsdp in pieces": {"running": {**hsdp, "micro_batch": 1}, "optimizer__rule": ADAFACTOR},
    }
    muon = {"running": hsdp, "optimizer__rule": MUON}
    found = learned(tmp_path, {**ways, "hsdp with muon": muon}, 3, ranks=4)
    _learned_alike_with_muon(found["hsdp with muon"], {**muon, "running": {}})
    for way, changes in ways.items():
        _learned_the_same(found[way], learn(recipe(**{**changes, "running": {}}), ALONE), ROUNDING.get(way, 1e-5))


@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_learn_what_one_does(way: str, two_ranks: dict[str, Any]) -> None:
    """All but the biases of keys: a softmax does not see them, their gradients are rounding, and Adafactor makes steps of those."""
    _learned_the_same(two_ranks[way], learn(recipe(**{**WAYS[way], "running": {}}), ALONE), ROUNDING.get(way, 1e-5))


def _learned_the_same(found: dict[str, Any], alone: dict[str, Any], atol: float) -> None:
    _reported_the_same(found, alone, rel=1e-5)
    for name, value in alone["tensors"].items():
        if name.startswith(("student.", "teacher.")):
            pair = [_without_keys(name, tensor) for tensor in (found["tensors"][name], value)]
            torch.testing.assert_close(*pair, rtol=1e-5, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def _reported_the_same(found: dict[str, Any], alone: dict[str, Any], *, rel: float) -> None:
    for a, b in zip(found["reports"], alone["reports"], strict=True):
        assert set(a) == set(b)
        for name, value in b.items():
            assert a[name] == pytest.approx(value, rel=1e-4 if name == "grad_norm" else rel, abs=1e-5), name
    assert set(found["tensors"]) == set(alone["tensors"])


def _without_keys(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Without the biases of keys."""
    return tensor.unflatten(0, (3, -1))[::2] if name.endswith("qkv.bias") else tensor


def _learned_alike_with_muon(found: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Muon computes in bfloat16 and makes the smallest singular values as large as others: one value that is rounded otherwise is seen."""
    alone, start = (learn(recipe(**chosen), ALONE, steps) for steps in (3, 0))
    _reported_the_same(found, alone, rel=1e-4)
    for name, before in start["tensors"].items():
        if name.startswith("student."):
            moved, other = (_without_keys(name, run["tensors"][name] - before) for run in (alone, found))
            assert (moved - other).norm() <= 0.05 * moved.norm() + 1e-5, name


@pytest.mark.parametrize("way", MUON_WAYS)
def test_two_ranks_learn_with_muon_what_one_does(way: str, two_ranks: dict[str, Any]) -> None:
    _learned_alike_with_muon(two_ranks[way], {**MUON_WAYS[way], "running": {}})


@pytest.mark.nightly
def test_half_precision_changes_gradients_by_its_rounding_alone(tmp_path: Path) -> None:
    """bf16 with every option that recipes of published size have, 30 steps at a rate that lets no rounding grow."""
    checkpointed, fsdp = {"activation_checkpointing": True}, {"parallel": "fsdp"}
    options = {"plain": {}, "checkpointed": checkpointed, "fsdp": fsdp, "both": checkpointed | fsdp}
    common = {"steps": 30, "method__teacher": FULL, "stages__0__learning_rate": 1e-4}
    ways = {name: {**common, "running": {"precision": "bf16", **running}} for name, running in options.items()}
    found = learned(tmp_path, {"fp32": {**common, "running": {}}, **ways}, 30)
    norms = {name: torch.tensor([report["grad_norm"] for report in done["reports"]]) for name, done in found.items()}
    for name in options:
        assert float(norms[name].mean()) == pytest.approx(float(norms["fp32"].mean()), rel=0.02), name
        assert (norms[name] / norms["fp32"] - 1).abs().max() < 0.05, name
    assert torch.equal(norms["checkpointed"], norms["plain"]) and torch.equal(norms["both"], norms["fsdp"])
    assert not torch.equal(norms["plain"], norms["fp32"])


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_ranks_go_on_by_themselves_when_one_is_killed(tmp_path: Path) -> None:
    running = {"parallel": "fsdp", "checkpoint_every": 10, "keep": 9, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=40, running=running)
    train = ["-m", "tips_bench", "train", path.name, "--device", "cpu"]
    whole = torchrun(2, *train, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr[-3000:]
    newest = checkpoint.newest(tmp_path / "whole")
    assert newest is not None and len(list(newest.glob("*.safetensors"))) == 2
    options = ["--standalone", "--max-restarts", "1"]
    with start_torchrun(2, *train, "--out", "killed", "--resume", cwd=tmp_path, options=options) as process:
        while checkpoint.newest(tmp_path / "killed") is None:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        ranks_of(process)[1].kill()
        killed = finish_torchrun(process)
    assert killed.returncode == 0, killed.stderr[-3000:]
    losses = [[line["loss"] for line in read_log(tmp_path / run) if "loss" in line] for run in ("whole", "killed")]
    assert losses[0] == losses[1] and len(losses[0]) == 40
    assert [line["event"] for line in read_history(tmp_path / "killed") if line["event"] != "stopped"] == ["start", "start", "finished"]


@pytest.mark.nightly
def test_one_two_and_three_ranks_in_turn_learn_what_one_does(tmp_path: Path) -> None:
    running = {"parallel": "fsdp", "checkpoint_every": 2, "keep": 9, "log_every": 1}
    changes = {"stages__0__warmup": 1, "stages__0__batch": 6}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=6, running=running, **changes)
    losses = []
    for ranks, checkpoints_lost in ((1, []), (2, [4, 6]), (3, [6])):
        for step in checkpoints_lost:
            (checkpoint.folder_at(tmp_path / "run", step) / checkpoint.STATE_FILE).unlink()
        command = ["-m", "tips_bench", "train", path.name, "--device", "cpu", "--out", "run", *(["--resume"] if losses else [])]
        done = torchrun(ranks, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        losses.append([line["loss"] for line in read_log(tmp_path / "run") if "loss" in line])
    assert all(len(one) == 6 and one == pytest.approx(losses[0], rel=1e-4) for one in losses)


@pytest.mark.nightly
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_what_two_ranks_learn_is_scored_beside_them(parallel: str, shapes: Path) -> None:
    evaluation = {"every": 2, "task": "shapes", "overrides": ["image.short_side=84", "probe.max_patches=600"]}
    shards = write_shards(shapes / "shards")
    running = {"parallel": parallel, "log_every": 1}
    path = write_recipe(shapes / "tiny.yaml", shards, steps=4, stages__0__warmup=1, running=running, evaluation=evaluation)
    done = torchrun(2, "-m", "tips_bench", "train", path.name, "--device", "cpu", cwd=shapes)
    assert done.returncode == 0, done.stderr[-3000:]
    scored = [line for line in read_log(shapes / "runs" / "tiny") if line.get("event") == "evaluation"]
    assert [line["step"] for line in scored] == [2, 4] and all(line["metrics"]["mIoU"] > 5 for line in scored)


def test_a_rank_that_fails_says_why_and_ends_the_other(tmp_path: Path) -> None:
    """The first finds the disk full, while the other waits for it."""
    running = {"checkpoint_every": 1, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=3000, running=running)
    (tmp_path / "runs" / "tiny").mkdir(parents=True)
    (tmp_path / "runs" / "tiny" / "checkpoints").write_text("no folder")
    done = torchrun(2, "-m", "tips_bench", "train", path.name, "--device", "cpu", cwd=tmp_path)
    assert done.returncode != 0 and "checkpoints/step-00000001: cannot write" in done.stderr
    (why,) = (line["why"] for line in read_history(tmp_path / "runs" / "tiny") if line["event"] == "stopped")
    assert "checkpoints/step-00000001: cannot write" in why
