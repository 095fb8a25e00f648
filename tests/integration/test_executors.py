"""`run --on`: the records of jobs are those of one process, and whatever is killed, the same command does only the rest."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner, Result

from tips_bench import claims
from tips_bench.cli.app import app
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.spec import resolve
from tips_bench.executors import local, matrix, ray, slurm
from tips_bench.executors.evaluations import jobs_of
from tips_bench.executors.work import do

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {name: value for name, value in vars(RunOptions(device="cpu", workers=0, metrics=[])).items() if name != "world"}
VARYING = {"cost", "created", "command"}
TINY = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6", "frames_per_scene=2")]
CHANGED = [word for change in (*TINY, "image.short_side=56") for word in ("--set", change)]
MATRIX = ["--task", "rooms-seg,rooms-depth", "--protocol", "convex-224,convex-depth-224", "--model", "tips-nano,pixels", *CHANGED]
RUN = ["run", *MATRIX, "--device", "cpu", "--batch-size", "3", "--workers", "0"]
DIES_ONCE = """
import os, signal
from pathlib import Path
def register():
    from tips_bench.features.extract import Extractor
    encode, left = Extractor._encode, [3]
    def dying(self, pixels):
        left[0] -= 1
        here = Path(__file__).with_suffix(".died")
        if left[0] < 0 and not here.exists():
            here.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, pixels)
    Extractor._encode = dying
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rooms are drawn by the first run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _installed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package: no git, whose uncommitted changes would have everything scored again."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The records of one process."""
    out = tmp_path_factory.mktemp("alone")
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), "TIPS_BENCH_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-m", "tips_bench", *RUN, "--out", str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def records(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.json") if not any(part.startswith(".") for part in path.relative_to(out).parts)]


def results(out: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Of each record by its path: all but what may differ, and the bytes of its per-sample counts."""
    found = {}
    for path in records(out):
        record = json.loads(path.read_text())
        rest = {key: value for key, value in record.items() if key not in VARYING}
        found[str(path.relative_to(out))] = rest, path.with_name(record["per_sample"]).read_bytes()
    return found


def of_pixels(out: Path) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The results of the model pixels."""
    return {path: found for path, found in results(out).items() if "pixels" in path}


def with_value(option: str, value: str, run: list[str] = RUN) -> list[str]:
    """The same command with another value of an option."""
    place = run.index(option) + 1
    return [*run[:place], value, *run[place + 1 :]]


def states(out: Path) -> list[str]:
    done = command("status", out, "--json")
    assert done.exit_code == 0, done.stderr
    return [one["state"] for one in json.loads(done.stdout)]


def written(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in records(out)}


LOCAL, SUBMITIT = ["--on", "local", "--jobs", "2"], ["--on", "slurm", "--slurm", "cluster=local"]


def left_over(out: Path) -> set[str]:
    """Work folders and shared features."""
    return {path.name for path in out.rglob("*.work")} | {path.name for path in out.glob(".*")} - {".matrix"}


@pytest.mark.parametrize("on", [pytest.param(LOCAL, id="local", marks=pytest.mark.nightly), pytest.param(SUBMITIT, id="submitit")])
def test_jobs_give_the_records_of_one_process_and_are_done_once(alone: Path, tmp_path: Path, on: list[str]) -> None:
    done = command(*RUN, "--out", tmp_path, *on)
    assert done.exit_code == 0, done.stderr
    assert len(results(tmp_path)) == 4 and results(tmp_path) == results(alone)
    assert states(tmp_path) == ["done"] * 4 and not left_over(tmp_path)
    before = written(tmp_path)
    again = command(*RUN, "--out", tmp_path, *on)
    assert again.exit_code == 0 and "4 done, 0 running, 0 failed, 0 left; 0 jobs" in again.stderr
    assert written(tmp_path) == before
    asked = matrix.read(tmp_path)[0].id
    matrix.say_failed(tmp_path, asked, "a later try failed")
    assert sorted(states(tmp_path)) == ["done"] * 3 + ["failed"]
    os.utime(tmp_path / ".matrix" / f"{asked}.failed", (0, 0))
    assert states(tmp_path) == ["done"] * 4, "the record is later"


@pytest.mark.nightly
def test_a_job_of_two_ranks_gives_the_records_of_one_process(alone: Path, tmp_path: Path) -> None:
    done = command(*with_value("--model", "pixels"), "--out", tmp_path, "--on", "slurm", "--slurm", "cluster=local,ranks=2")
    assert done.exit_code == 0, done.stderr
    assert results(tmp_path) == of_pixels(alone) and not left_over(tmp_path)
    assert [json.loads(path.read_text())["cost"]["ranks"] for path in records(tmp_path)] == [2, 2]


@pytest.mark.nightly
def test_ranks_go_on_with_the_rest_of_a_job_of_which_an_evaluation_fails(tmp_path: Path) -> None:
    run = [*with_value("--task", "rooms-depth,rooms-seg", with_value("--model", "pixels")), "--metrics", "boundary-iou"]  # not for depth
    alone = command(*run, "--out", tmp_path / "alone")
    done = command(*run, "--out", tmp_path / "ranks", "--on", "slurm", "--slurm", "cluster=local,ranks=2")
    sentence = "is for segmentation, zeroshot-segmentation, not for depth"
    assert alone.exit_code == done.exit_code == 2 and sentence in alone.stderr and sentence in done.stderr
    assert sorted(states(tmp_path / "ranks")) == ["done", "failed"]
    assert len(results(tmp_path / "ranks")) == 1 and results(tmp_path / "ranks") == results(tmp_path / "alone")


@pytest.mark.nightly
def test_the_same_command_takes_up_what_a_killed_job_left(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    run = [*RUN, "--out", str(out), "--on", "local"]
    environment = {**os.environ, "TIPS_BENCH_PLUGINS": "dies_once"}

    def started() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "tips_bench", *run], env=environment, capture_output=True, text=True)

    first = started()
    assert first.returncode == 2 and "the process was ended by SIGKILL" in first.stderr, first.stderr
    assert states(out).count("failed") == 2, "both evaluations of the job"
    before = written(out)
    second = started()
    assert second.returncode == 0 and "2 done, 0 running, 2 failed, 0 left; 1 job for the rest" in second.stderr, second.stderr
    assert results(out) == results(alone)
    assert before.items() <= written(out).items(), "what was done is not done again"


def test_jobs_end_with_the_command_that_started_them(alone: Path, tmp_path: Path) -> None:
    run = [*with_value("--model", "pixels"), "--out", str(tmp_path), "--on", "local"]
    with subprocess.Popen([sys.executable, "-m", "tips_bench", *run], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as first:
        until = time.monotonic() + 120
        while not list(tmp_path.glob(".matrix/*.running")) and time.monotonic() < until:
            time.sleep(0.02)
        assert "running" in states(tmp_path)
        (job,) = psutil.Process(first.pid).children()
        first.kill()
        job.wait(timeout=20)
    assert "running" not in states(tmp_path) and "left" in states(tmp_path)
    assert command(*run).exit_code == 0
    assert results(tmp_path) == of_pixels(alone) and not left_over(tmp_path)


def test_a_run_leaves_a_record_to_the_run_that_makes_it(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = Path(shutil.copytree(alone, tmp_path / "out"))
    (record,) = (path for path in records(out) if "pixels" in path.parts and "rooms-depth" in path.parts)
    before, work = record.read_bytes(), record.with_name(f".{record.stem}.work")
    one = with_value("--protocol", "convex-depth-224", with_value("--task", "rooms-depth"))
    run = [*with_value("--model", "pixels", one), "--out", out]
    record.unlink()

    def ends_meanwhile(seconds: float) -> None:
        record.write_bytes(before)
        shutil.rmtree(work)

    with claims.claimed(work / "run.lock"):
        with monkeypatch.context() as patch:
            patch.setattr(claims, "PATIENCE_S", 0.0)
            refused = command(*run)
        assert refused.exit_code == 2 and f"another run makes the same record: process {os.getpid()} on" in refused.stderr
        assert work.is_dir() and not record.exists()
        monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=time.monotonic, sleep=ends_meanwhile))
        done = command(*run)
    assert done.exit_code == 0 and "scored before" in caplog.text
    assert record.read_bytes() == before and not left_over(out)


def test_an_evaluation_that_another_process_has_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims, "PATIENCE_S", 0.05)
    (job,) = jobs_of([resolve("rooms-seg", "pixels", "convex-224")], OPTIONS | {"out": tmp_path})
    with matrix.claimed(tmp_path, job["arguments"]["evaluations"][0]["id"]) as ours:
        assert ours and do(job) == []
    assert f"rooms-seg, pixels, convex-224: left to process {os.getpid()} on" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "the system refuses it: No space left"), (errno.EINVAL, "a bug: OSError")])
def test_a_full_disk_in_a_job_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tips_bench.evaluation.run.evaluate_spec", refuse)
    (job,) = jobs_of([resolve("rooms-seg", "pixels", "convex-224")], OPTIONS | {"out": tmp_path})
    with nullcontext() if number == errno.ENOSPC else pytest.raises(OSError):
        do(job)
    (failed,) = tmp_path.glob(".matrix/*.failed")
    assert said in failed.read_text()


def test_jobs_share_the_disk_with_those_that_run_beside_them(tmp_path: Path) -> None:
    pairs = [("rooms-seg", "convex-224"), ("rooms-depth", "convex-depth-224"), ("rooms-seg", "convex")]
    specs = [resolve(task, model, protocol) for model in ("pixels", "tips-nano") for task, protocol in pairs]
    for at_once, beside in ((None, 2), (8, 2), (1, 1)):
        jobs = jobs_of(specs, OPTIONS | {"out": tmp_path}, at_once)
        assert [job["arguments"]["jobs"] for job in jobs] == [beside] * 4, "of four jobs two have features to share"


def test_an_evaluation_that_fails_leaves_its_sentence(tmp_path: Path) -> None:
    run = ["run", "--task", "ade20k", "--model", "tips-nano", "--device", "cpu", "--out", str(tmp_path), "--on", "local"]
    done = command(*run, "--data-root", tmp_path / "nothing")
    assert done.exit_code == 2 and done.stderr.splitlines()[-1].startswith("tips-bench: ") and "nothing" in done.stderr
    shown = command("status", tmp_path)
    assert "0 done, 0 running, 1 failed, 0 left" in shown.stdout and "nothing" in shown.stdout
    (asked,) = matrix.read(tmp_path)
    with matrix.claimed(tmp_path, asked.id):
        again = command(*run)
        assert again.exit_code == 2 and "0 done, 1 running, 0 failed, 0 left; 0 jobs" in again.stderr
        assert f"process {os.getpid()} on" in again.stderr.splitlines()[-1] and "Give the same command again" in again.stderr
    shown = command("status", tmp_path, "--forget")
    assert shown.exit_code == 0 and "1 evaluation forgotten" in shown.stderr and matrix.read(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "slurm"], "there is no sbatch on this machine"),
        (["--on", "slurm", "--slurm", "cluster=local,ranks=0"], "ranks=0 is not a whole number from 1"),
        (["--on", "ray", "--ray", "ranks=many"], "ranks=many is not a whole number from 1"),
        (["--on", "slurm", "--slurm", "cluster=other"], "cluster=other is not known"),
        (["--on", "slurm", "--slurm", "partition"], "'partition' is not KEY=VALUE"),
        (["--on", "slurm", "--slurm", "max_num_timeout=x"], "max_num_timeout=x is not a whole number"),
        (["--on", "slurm", "--slurm", "setup=module load cuda"], "Write `setup: [first, second]` into a YAML file"),
        (["--on", "slurm", "--slurm", "additional_parameters=nice"], "additional_parameters is not a mapping"),
        (["--on", "slurm", "--slurm", "nodes=2"], "nodes=2, but a job is one process on one machine"),
        (["--on", "slurm", "--slurm", "num_gpus=8"], "Write gpus_per_node=8"),
        (["--on", "slurm", "--slurm", "@missing.yaml"], "missing.yaml: cannot read"),
        (["--on", "ray", "--ray", "gpus=1"], "there is no setting 'gpus'"),
        (["--on", "ray", "--ray", "num_cpus=x"], "num_cpus=x is not a number from 0"),
        (["--on", "ray", "--ray", "num_gpus=1.5"], "num_gpus=1.5 is more than one GPU, and not whole"),
        (["--on", "ray", "--ray", "max_retries=often"], "max_retries=often is not a whole number from -1"),
        (["--on", "local", "--ray", "num_gpus=1"], "this option is for --on ray"),
        (["--jobs", "2"], "this option is for --on local"),
        (["--on", "slrm"], "Did you mean 'slurm'?"),
        (["--on", "local", "--rerun"], "--rerun does not go with --on"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path: Path, options: list[str], said: str) -> None:
    done = command(*RUN, "--out", tmp_path, *options)
    assert done.exit_code == 2 and done.stdout == ""
    assert said in done.stderr.splitlines()[-1]
    assert not list(tmp_path.rglob("evaluations.json")), "what is refused is not asked for"


def test_what_slurm_has_is_not_queued_twice_and_what_it_has_ended_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    for name, script in (("sbatch", "echo Submitted batch job 7"), ("srun", ""), ("squeue", "echo 7_0; echo 7_1"), ("sacct", "exit 1")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    out = tmp_path / "out"
    on_slurm = [*RUN, "--out", out, "--on", "slurm"]
    first, second = command(*on_slurm), command(*on_slurm)
    assert first.exit_code == second.exit_code == 0, second.stderr
    assert "queued as array job 7 of Slurm, 2 jobs" in first.stderr
    assert "0 done, 0 running, 4 queued, 0 failed, 0 left; 0 jobs" in second.stderr and "see what is done" in second.stderr
    assert states(out) == ["queued"] * 4
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\n")
    assert "Slurm's job 7_0 ended without its record; its log is " in command("status", out, "--json").stdout
    assert states(out) == ["failed"] * 4
    assert "4 failed, 0 left; 2 jobs" in command(*on_slurm).stderr


@pytest.mark.parametrize(("module", "package"), [(slurm, "slurm"), (ray, "ray")])
def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, package: str) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    done = command(*RUN, "--out", tmp_path, "--on", package)
    assert done.exit_code == 2 and f"pip install 'tips-bench[{package}]'" in done.stderr


def test_a_folder_without_a_list_of_evaluations_is_said(tmp_path: Path) -> None:
    done = command("status", tmp_path)
    assert done.exit_code == 2 and "no evaluations were started there with --on" in done.stderr


def test_each_gpu_gets_jobs_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(local, "_processors", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = [(one["CUDA_VISIBLE_DEVICES"], one["OMP_NUM_THREADS"]) for one in local._environments(None, None)]
    assert seen == [("0", "4"), ("1", "4")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [one["CUDA_VISIBLE_DEVICES"] for one in local._environments("cuda", 4)] == ["3", "5", "3", "5"]
