"""What a cluster does to a run under torchrun: a rank that hangs, machines that leave and come."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.pretraining import recipe, write_recipe, write_shards
from tests.helpers.torchrun import finish_torchrun, free_port, kill_tree, listens, ranks_of, start_torchrun, torchrun
from tips_bench.training import checkpoint
from tips_bench.training.history import read_history
from tips_bench.training.log import read_log
from tips_bench.training.loop import train as train_run

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]


def test_a_rank_that_is_frozen_ends_the_others_within_the_limit_and_is_named(tmp_path: Path) -> None:
    running = {"timeout_minutes": 0.5, "checkpoint_every": 5000, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=5000, running=running)
    with start_torchrun(2, "-m", "tips_bench", "train", path.name, "--device", "cpu", cwd=tmp_path) as process:
        log = tmp_path / "runs" / "tiny" / "log.jsonl"
        while not (log.is_file() and any(line["step"] > 3 for line in read_log(log.parent))):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        frozen = ranks_of(process)[1]
        frozen.suspend()
        done = finish_torchrun(process)
    assert done.returncode != 0
    assert "did not end within 0.5 minutes on rank 0: rank 1 does not answer any more. Look at that machine" in done.stderr


def test_a_rank_that_hangs_before_the_first_step_ends_the_others_and_is_named(tmp_path: Path) -> None:
    """It never comes to the checkpoint that all restore."""
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), running={"timeout_minutes": 0.2})
    script = tmp_path / "hang.py"
    script.write_text(
        "import os, time\nfrom pathlib import Path\nfrom tips_bench.training import loop\n"
        "from tips_bench.training.recipe_files import load_recipe\n"
        "if os.environ['RANK'] == '0':\n    loop._Run._restore = lambda self: time.sleep(600)\n"
        "loop._Run._tokenizer = lambda self: self.watchdog.at(0, 'indexing' if self.world.is_first else 'starting')\n"
        f"loop.train(load_recipe({str(path)!r}), Path('run'), device='cpu')\n"
    )
    done = torchrun(2, script, cwd=tmp_path)
    assert done.returncode != 0
    assert "a part of the start did not end within 0.2 minutes on rank 1: rank 0 is reading the headers of shards" in done.stderr


def test_other_ranks_leave_before_the_first_has_the_last_scores(tmp_path: Path) -> None:
    evaluation = {"every": 2, "task": "any"}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=4, evaluation=evaluation)
    script = tmp_path / "scores.py"
    script.write_text(
        "import os, time\nfrom pathlib import Path\nfrom tips_bench import ranks\nfrom tips_bench.training import loop\n"
        "from tips_bench.training.recipe_files import load_recipe\n"
        "def evaluate(part, model, out):\n"
        "    until = time.monotonic() + 200\n"
        "    while not Path('left').exists() and time.monotonic() < until:\n        time.sleep(0.1)\n"
        "    return {'left': float(Path('left').exists())}\n"
        f"loop.train(load_recipe({str(path)!r}), Path('run'), device='cpu', evaluate=evaluate)\n"
        "if os.environ['RANK'] == '1':\n    Path('left').touch()\nranks.end()\n"
    )
    done = torchrun(2, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    scored = [line for line in read_log(tmp_path / "run") if line.get("event") == "evaluation"]
    assert [(line["step"], line["metrics"]["left"]) for line in scored] == [(2, 1.0), (4, 1.0)]
    assert [line["event"] for line in read_history(tmp_path / "run")] == ["start", "finished"]


def _machines(number: str, port: int) -> list[str]:
    """Options of a launcher that stands for one of so many machines, the first of which listens on a port."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "run", "--rdzv-conf", "last_call_timeout=3"]
    return ["--nnodes", number, "--max-restarts", "5", *meeting]


def _starts(run: Path) -> list[int]:
    """The number of ranks of each attempt so far."""
    return [line["ranks"] for line in read_history(run) if line["event"] == "start"]


def _wait(run: Path, wanted: Callable[[], bool]) -> None:
    for _ in range(6000):
        if wanted():
            return
        time.sleep(0.1)
    raise AssertionError(f"the run does not come on: {read_history(run)}")


def test_a_machine_that_gets_a_sigterm_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    running = {"checkpoint_every": 5000, "log_every": 1}
    path = write_recipe(tmp_path / "tiny.yaml", write_shards(tmp_path / "shards"), steps=300, running=running)
    train = ["-m", "tips_bench", "train", path.name, "--device", "cpu", "--out", "run", "--resume"]
    run, port = tmp_path / "run", free_port()
    with ExitStack() as stack:
        first = stack.enter_context(start_torchrun(1, *train, cwd=tmp_path, options=_machines("1:2", port)))
        _wait(run, lambda: listens(port))
        second = stack.enter_context(start_torchrun(1, *train, cwd=tmp_path, options=_machines("1:2", port)))
        _wait(run, lambda: _starts(run)[-1:] == [2] and any("loss" in line for line in read_log(run)))
        second.terminate()
        done = finish_torchrun(first)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line["event"] for line in read_history(run)][-4:] == ["start", "preempted", "start", "finished"] and _starts(run)[-1] == 1
    assert len([line for line in read_log(run) if "loss" in line]) == 300
    assert "other ranks of this run were stopped by SIGTERM" in done.stderr


def test_machines_leave_and_join_a_run_that_goes_on_by_itself(tmp_path: Path) -> None:
    """Three launchers of a rank each stand for machines: one is killed, and another comes."""
    running = {"parallel": "fsdp", "checkpoint_every": 20, "keep": 99, "log_every": 1}
    shards = write_shards(tmp_path / "shards")
    slow = {"stages__0__batch": 6, "stages__0__learning_rate": 1e-5, "stages__0__final_learning_rate": 1e-6}  # lets no rounding grow
    path = write_recipe(tmp_path / "tiny.yaml", shards, steps=400, running=running, **slow)
    train = ["-m", "tips_bench", "train", path.name, "--device", "cpu", "--out", "run", "--resume"]
    port = free_port()
    options = [*_machines("1:3", port), "--shutdown-timeout", "5"]
    run = tmp_path / "run"
    with ExitStack() as stack:
        first = stack.enter_context(start_torchrun(1, *train, cwd=tmp_path, options=options))
        _wait(run, lambda: listens(port))  # the others meet at the first, which stays
        second = stack.enter_context(start_torchrun(1, *train, cwd=tmp_path, options=options))
        _wait(run, lambda: _starts(run)[-1:] == [2] and checkpoint.newest(run) is not None)
        kill_tree(second)
        _wait(run, lambda: _starts(run)[-1:] == [1])
        third = stack.enter_context(start_torchrun(1, *train, cwd=tmp_path, options=options))
        _wait(run, lambda: _starts(run)[-1:] == [2])
        assert [finish_torchrun(process).returncode for process in (first, third)] == [0, 0]
    losses = [line["loss"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert len(losses) == 400
    train_run(recipe(shards, steps=400, running={"log_every": 1}, **slow), tmp_path / "alone", device="cpu")
    assert losses == pytest.approx([line["loss"] for line in read_log(tmp_path / "alone") if "loss" in line], rel=1e-3)
