"""A rank that is killed or frozen ends the run with one sentence, and the same command goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.torchrun import ROOT, finish_torchrun, start_torchrun

pytestmark = pytest.mark.timeout(900)  # processes that start several times
TINY = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6", "frames_per_scene=2")]
SETTINGS = [word for change in (*TINY, "image.short_side=56") for word in ("--set", change)]
RUN = ["run", "--task", "rooms-seg", "--protocol", "convex-224", "--model", "tips-nano", *SETTINGS]
RUN += ["--device", "cpu", "--batch-size", "3", "--workers", "0"]
SENTENCES = {
    "SIGKILL": "tips-bench: torchrun: rank {rank} ended before the evaluation did. See what it said, and whether memory was short.",
    "SIGSTOP": "tips-bench: torchrun: rank {rank} did not answer for 0.25 minutes. Look at its machine.",
}
DOOMED = """
import os, signal, time
from pathlib import Path
def register():
    from tips_bench.features.extract import Extractor
    encode, doom = Extractor._encode, Path(__file__).with_suffix(".doom")
    def dying(self, pixels):
        rank, how = doom.read_text().split() if doom.exists() else ("", "")
        if rank and rank == os.environ.get("RANK"):
            doom.unlink()
            os.kill(os.getpid(), getattr(signal, how))
        elif rank:
            time.sleep(1)  # torchrun finds this rank in the midst of its work
        return encode(self, pixels)
    Extractor._encode = dying
"""


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TIPS_BENCH_PLUGINS", "doomed")
    (tmp_path / "doomed.py").write_text(DOOMED)


def run_torchrun(folder: Path) -> tuple[int, list[str]]:
    """The status of two ranks, and what is said of ranks."""
    options = ("--standalone", "--shutdown-timeout", "15")
    with start_torchrun(2, "-m", "tips_bench", *RUN, "--out", folder / "out", cwd=folder, options=options) as process:
        done = finish_torchrun(process)
    said = [line for line in done.stderr.splitlines() if line.startswith("tips-bench: ") and "task rooms-seg: " not in line]
    assert "tips_bench/" not in done.stderr, "no traceback of ours"
    return done.returncode, said


@contextmanager
def a_rank_dies(folder: Path, rank: int, how: str) -> Iterator[None]:
    """Inside, with a short limit; what comes after runs under a long one, on a machine that may be busy."""
    (folder / "doomed.doom").write_text(f"{rank} {how}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIPS_BENCH_TIMEOUT_MINUTES", "0.25")
        yield


def check_sentence(folder: Path, rank: int, how: str) -> None:
    with a_rank_dies(folder, rank, how):
        status, said = run_torchrun(folder)
    assert status != 0 and len(said) == 1
    assert said[0].startswith(SENTENCES[how].format(rank=rank)) and "The same command goes on where it stopped" in said[0]


def test_a_rank_that_is_killed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    check_sentence(tmp_path, 0, "SIGKILL")


@pytest.mark.nightly
@pytest.mark.parametrize(("rank", "how"), [(1, "SIGKILL"), (0, "SIGSTOP"), (1, "SIGSTOP")])
def test_a_rank_that_dies_ends_the_run_with_a_sentence_and_the_same_command_goes_on(tmp_path: Path, rank: int, how: str) -> None:
    check_sentence(tmp_path, rank, how)
    assert run_torchrun(tmp_path) == (0, [])


@pytest.mark.nightly
@pytest.mark.parametrize("how", SENTENCES)
def test_a_rank_that_dies_in_a_job_leaves_a_sentence_and_the_same_command_goes_on(tmp_path: Path, how: str) -> None:
    job = [*RUN, "--out", tmp_path / "out", "--on", "slurm", "--slurm", "cluster=local,ranks=2"]
    with a_rank_dies(tmp_path, 1, how):
        done = command(*job)
    assert done.returncode == 2, done.stderr
    (one,) = json.loads(command("status", tmp_path / "out", "--json").stdout)
    assert one["state"] == "failed"
    assert f"tips-bench: {one['sentence']}".startswith(SENTENCES[how].format(rank=1)) and one["sentence"] in done.stderr
    assert command(*job).returncode == 0


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tips_bench", *map(str, arguments)], capture_output=True, text=True)
