"""What executors share: what a job takes along, the list of evaluations, and jobs that Slurm has lost."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tips_bench.executors import matrix, queue, slurm
from tips_bench.executors.chosen import chosen_executor
from tips_bench.executors.jobs import Settings, new_job, ranks_of
from tips_bench.executors.work import prepare
from tips_bench.results.record import Record


def test_a_job_takes_the_folder_and_the_variables_of_tips_bench_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tips-bench", "run"])
    monkeypatch.setenv("TIPS_BENCH_DATA", "my data")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    job = new_job("module:function", {"number": 1})
    assert "secret" not in str(job)
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "argv", ["worker"])
    monkeypatch.delenv("TIPS_BENCH_DATA")
    monkeypatch.setenv("TIPS_BENCH_CACHE_LIMIT", "5GB")  # of this machine alone
    prepare(job)
    assert (Path.cwd(), sys.argv) == (tmp_path, ["tips-bench", "run"])
    assert (os.environ["TIPS_BENCH_DATA"], os.environ["TIPS_BENCH_CACHE_LIMIT"]) == ("my data", "5GB")


def test_commands_that_ask_at_the_same_moment_are_all_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = matrix.read

    def slow(out: Path) -> list[matrix.Asked]:
        found = read(out)
        time.sleep(0.05)
        return found

    monkeypatch.setattr(matrix, "read", slow)
    matrix.add(tmp_path, [matrix.Asked("first", "task", "model", "protocol")])
    with ThreadPoolExecutor(3) as commands:
        list(commands.map(lambda name: matrix.add(tmp_path, [matrix.Asked(name, "task", "model", "protocol")]), "abc"))
    assert {one.id for one in read(tmp_path)} == {"first", "a", "b", "c"}


def test_a_job_that_is_twice_not_in_the_queue_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LOOK_IN_QUEUE_S", 0.0)
    looks = iter([{"7_0", "7_1", "9"}, {"7_1"}, None, {"7_0", "7_1"}, {"7_1"}, {"7_1"}])
    monkeypatch.setattr(queue, "in_queue", lambda users: next(looks))
    ours = queue.Queue()
    found = [ours.lost(["7_0", "7_1"]) for _ in range(6)]
    assert found == [set(), set(), set(), set(), set(), {"7_0"}], "a queue that does not answer tells nothing, a requeued job is back"


def test_the_queue_is_not_asked_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(queue, "in_queue", lambda users: asked.append(1) or {"7"})
    ours = queue.Queue()
    for _ in range(5):
        ours.lost(["7"])
    assert len(asked) == 1


def test_settings_are_numbers_yes_and_no_text_or_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("setup: [module load cuda, source /opt/env/bin/activate]\nexclude: node-1,node-2\ntime: 60\n")
    chosen = chosen_executor("slurm", None, f"@{file},time=120, account=0042,exclusive=true,mem=64", None)
    assert chosen is not None and chosen.values == {
        "setup": ["module load cuda", "source /opt/env/bin/activate"],
        "exclude": "node-1,node-2",
        "time": 120,
        "account": "0042",
        "exclusive": True,
        "mem": 64,
    }
    chosen = chosen_executor("ray", None, None, "num_gpus=0.5,max_retries=-1")
    assert chosen is not None and chosen.values == {"num_gpus": 0.5, "max_retries": -1}


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ({}, 1),
        ({"gpus_per_node": 8}, 8),
        ({"gpus_per_node": "a100:8"}, 8),
        ({"gpus_per_task": "h100:4"}, 4),
        ({"gres": "gpu:8"}, 8),
        ({"gres": "gpu:a100:2(S:0),shard:16"}, 2),
        ({"gres": "gpu"}, 1),
        ({"gres": "shard:16"}, 1),
        ({"gres": "gpu:8", "ranks": 1}, 1),
    ],
)
def test_a_job_has_a_rank_for_each_gpu_however_slurm_is_asked_for_them(values: dict[str, object], ranks: int) -> None:
    assert ranks_of(dict(values), "gpus_per_node", "--slurm") == ranks


def test_lists_reach_the_script_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    values = {"setup": ["module load cuda"], "srun_args": ["--mpi=none"], "additional_parameters": {"nice": 100}, "gres": "gpu:2"}
    settings = Settings(tmp_path / "logs", lambda job, problem: None, values)
    assert slurm.run([], settings) is True
    executor = slurm._executor("slurm", 3, settings, values)
    assert isinstance(executor, submitit.SlurmExecutor)
    script = executor._make_submission_file_text("true", "uid").splitlines()
    assert {"module load cuda", "#SBATCH --nice=100", "#SBATCH --gres=gpu:2"} <= set(script)
    assert any(line.startswith("srun ") and "--mpi=none" in line for line in script)


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Commands of Slurm that answer so."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_what_slurm_has_in_its_queue_is_queued_and_what_it_has_ended_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [matrix.Asked(name, "task", "model", "protocol") for name in ("waits", "ended", "done again", "never queued")]
    matrix.add(tmp_path, asked)
    for number, own in enumerate(("waits", "ended", "done again")):
        queue.note_queued(tmp_path, [own], f"7_{number}", tmp_path / f"7_{number}.err")
    matrix.say_failed(tmp_path, "done again", "a wrong path")

    def states() -> list[tuple[str, str]]:
        return [(one.state, one.sentence) for one in queue.ask_queue(tmp_path, matrix.status(tmp_path, asked))]

    log = f"its log is {tmp_path}/7_1.err"
    on_path(tmp_path / "bin", monkeypatch, squeue="echo 7_0; echo 8", sacct='echo "7_1|OUT_OF_MEMORY"')
    rest = [("failed", "a wrong path"), ("left", "")]
    assert states() == [
        ("queued", "Slurm's job 7_0"),
        ("failed", f"Slurm's job 7_1 ended (OUT_OF_MEMORY) without its record; {log}"),
        *rest,
    ]
    on_path(tmp_path / "bin", monkeypatch, sacct="exit 1")
    assert states()[1] == ("failed", f"Slurm's job 7_1 ended without its record; {log}"), "no accounting"
    on_path(tmp_path / "bin", monkeypatch, squeue="exit 1")
    silent = [("left", f"Slurm has it as job 7_{number}, but does not answer on this machine") for number in (0, 1)]
    assert states() == [*silent, *rest]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states() == [*silent, *rest], "no Slurm"
    queue.note_queued(tmp_path, ["done again"], "9_0", tmp_path / "9_0.err")
    on_path(tmp_path / "bin", monkeypatch, squeue="echo 9_0")
    assert states()[2] == ("queued", "Slurm's job 9_0"), "the earlier failure is forgotten"
    queue.forget_queued(tmp_path, ["waits"])
    assert states()[0] == ("left", "")


def test_what_ends_while_its_record_is_looked_for_is_running_and_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as works:

        def ends(out: Path, clean: bool) -> dict[str, list[Record]]:
            works.close()
            return {}

        monkeypatch.setattr(matrix, "_records", ends)
        assert works.enter_context(matrix.claimed(tmp_path, "own"))
        (state,) = matrix.status(tmp_path, [matrix.Asked("own", "task", "model", "protocol")])
    assert state.state == "running"
