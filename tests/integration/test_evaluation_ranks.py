"""One evaluation by 1, 2 and 3 processes is the same record, bit for bit, and what killed ranks left is taken up by another number."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.evaluation_ranks import JOBS, evaluate_jobs
from tests.helpers.landmark_sets import write_met
from tests.helpers.pair_sets import write_ap10k
from tests.helpers.rank_threads import by_ranks as by_threads
from tests.helpers.torchrun import torchrun
from tips_bench.evaluation.run import _Run
from tips_bench.ranks import ALONE
from tips_bench.results.record import load_record

ROOT = Path(__file__).resolve().parents[2]
VARYING = {"cost", "created", "command", "git_dirty"}  # other tests write to the checkout for a moment
EIGHT = ["segmentation", "depth", "retrieval", "points"]  # of 3 images a batch: some of eight ranks have none
KILLED = {"segmentation": 1, "depth": 2, "in-context": 2}
pytestmark = pytest.mark.timeout(900)  # dozens of evaluations by several processes


def by_ranks(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What so many processes together evaluate."""
    return torchrun(ranks, ROOT / "tests" / "helpers" / "evaluation_ranks.py", *arguments, limit_s=400)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where rooms are drawn by the first run of each, beside sets that have no rooms."""
    folder = tmp_path_factory.mktemp("data")
    write_met(folder / "met" / "met")
    write_ap10k(folder / "ap10k" / "ap-10k")
    return folder


@pytest.fixture(scope="module")
def names(request: pytest.FixtureRequest) -> list[str]:
    """The jobs that the chosen tests look at."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    wanted = {one.params["name"] for one in chosen if one is not None and "name" in one.params}
    return [name for name in JOBS if name in wanted]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path, names: list[str]) -> Path:
    """The records of one process."""
    out, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)  # as a rank has
    try:
        evaluate_jobs(names, out, data, ALONE)
    finally:
        torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.nightly)])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data: Path, alone: Path, names: list[str]) -> Path:
    """The records of several."""
    out = tmp_path_factory.mktemp(f"ranks-{request.param}")
    done = by_ranks(request.param, out, data, ",".join(names))
    assert done.returncode == 0, done.stderr
    return out


def records(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.json") if ".work" not in str(path)]


def result(out: Path, name: str) -> tuple[dict[str, Any], bytes]:
    """A job's record less what may differ, and the bytes of its per-sample counts."""
    (path,) = records(out / name)
    record = json.loads(path.read_text())
    return {key: value for key, value in record.items() if key not in VARYING}, path.with_name(record["per_sample"]).read_bytes()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.nightly) if job.at_night else name for name, job in JOBS.items()])
def test_any_number_of_ranks_gives_the_same_record(alone: Path, together: Path, name: str) -> None:
    assert result(together, name) == result(alone, name)
    assert not list((together / name).rglob(".*")), "nothing is left beside the record"


@pytest.fixture(scope="module")
def by_eight(tmp_path_factory: pytest.TempPathFactory, data: Path, alone: Path) -> Path:
    """The records of eight ranks."""
    out = tmp_path_factory.mktemp("ranks-8")
    done = by_ranks(8, out, data, ",".join(EIGHT))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.nightly
@pytest.mark.parametrize("name", EIGHT)
def test_eight_ranks_of_which_some_have_no_image_give_the_same_record(alone: Path, by_eight: Path, name: str) -> None:
    assert result(by_eight, name) == result(alone, name)
    assert json.loads(records(by_eight / name)[0].read_text())["cost"]["ranks"] == 8


def test_the_ranks_share_the_images(alone: Path, together: Path, names: list[str]) -> None:
    for name in {"segmentation", "depth", "retrieval", "neighbors", "videos", "points", "keypoints", "views"}.intersection(names):
        one, several = (json.loads(records(out / name)[0].read_text())["cost"] for out in (alone, together))
        assert several["image_forwards"] == one["image_forwards"] and one["ranks"] == 1 < several["ranks"]


@pytest.mark.parametrize(
    ("name", "forwards"),
    [pytest.param(*killed, marks=pytest.mark.nightly) if killed[0] != "segmentation" else killed for killed in KILLED.items()],
)
def test_a_killed_rank_ends_the_run_and_another_number_takes_it_up(
    alone: Path, data: Path, tmp_path: Path, name: str, forwards: int
) -> None:
    done = by_ranks(3, tmp_path, data, name, forwards)
    assert done.returncode != 0 and not records(tmp_path)
    done = by_ranks(2, tmp_path, data, name)
    assert done.returncode == 0, done.stderr
    assert result(tmp_path, name) == result(alone, name)


@pytest.mark.parametrize("name", ["retrieval"])
def test_rank_0_tells_whether_there_is_a_record(
    alone: Path, data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank for itself might find that the checkout has changed, and go on without the others."""
    shutil.copytree(alone / name, tmp_path / name)
    (path,) = records(tmp_path)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(_Run, "earlier", lambda run: (load_record(run.path), []) if run.world.is_first else None)
    by_threads(2, lambda world: evaluate_jobs([name], tmp_path, data, world))
    assert path.stat().st_mtime_ns == before
