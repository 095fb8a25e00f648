"""On a Ray cluster of two nodes, of which one is taken away, and by two ranks: the records, and the corpus, of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.curation import TASK, write_corpus, write_task
from tips_bench.corpus.card import CROISSANT, README

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6", "frames_per_scene=2")]
RUN = ["run", "--task", "rooms-seg,rooms-depth", "--protocol", "convex-224,convex-depth-224", "--model", "tips-nano,pixels"]
RUN += [word for change in (*ROOMS, "image.short_side=56") for word in ("--set", change)]
RUN += ["--device", "cpu", "--batch-size", "1", "--workers", "0"]
TIPS_BENCH = [sys.executable, "-m", "tips_bench"]
VARYING = {"cost", "created", "command"}

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def results(out: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in out.glob("rooms-*/*/[!.]*.json"):
        record = json.loads(path.read_text())
        rest = {key: value for key, value in record.items() if key not in VARYING}
        found[str(path.relative_to(out))] = rest, path.with_name(record["per_sample"]).read_bytes()
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
    own = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **own, "TIPS_BENCH_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def alone(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The records of one process."""
    out = tmp_path_factory.mktemp("alone")
    done = subprocess.run([*TIPS_BENCH, *RUN, "--out", str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return results(out)


@contextmanager
def cluster_of_two(environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a cluster, and the process that holds it: a line to it takes one node away."""
    script = [sys.executable, str(ROOT / "tests" / "helpers" / "ray_cluster.py")]
    with subprocess.Popen(script, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        assert address, "Ray's nodes did not start"
        yield address, cluster
        cluster.stdin.close()


def test_a_node_that_is_taken_away_costs_no_record(environment: dict[str, str], alone: dict[str, object], tmp_path: Path) -> None:
    with cluster_of_two(environment) as (address, cluster):
        assert cluster.stdin is not None and cluster.stdout is not None
        on_ray = ["--on", "ray", "--ray", f"address={address},num_gpus=0,num_cpus=1", "--out", str(tmp_path)]
        with subprocess.Popen([*TIPS_BENCH, *RUN, *on_ray], env=environment, stderr=subprocess.PIPE, text=True) as run:
            until = time.monotonic() + 300
            while len(list(tmp_path.glob(".matrix/*.running"))) < 2 and time.monotonic() < until:
                time.sleep(0.1)
            print(file=cluster.stdin, flush=True)
            assert cluster.stdout.readline() == "one node\n"
            _, said = run.communicate(timeout=400)
        assert run.returncode == 0, said
    assert len(alone) == 4 and results(tmp_path) == alone


def test_tasks_of_two_ranks_make_the_records_of_one_process(environment: dict[str, str], alone: dict[str, object], tmp_path: Path) -> None:
    with cluster_of_two(environment) as (address, _):
        on_ray = ["--on", "ray", "--ray", f"address={address},num_gpus=0,num_cpus=1,ranks=2", "--out", str(tmp_path)]
        done = subprocess.run([*TIPS_BENCH, *RUN, *on_ray], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    assert len(alone) == 4 and results(tmp_path) == alone


def files(folder: Path) -> dict[str, bytes]:
    said = {CROISSANT, README}  # they hold the folder's name
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in said}


def test_a_curation_makes_the_corpus_of_one_process_though_a_node_is_taken_away(environment: dict[str, str], tmp_path: Path) -> None:
    """Copies are looked for in cells, so that every kind of piece is done on Ray."""
    planted = write_corpus(tmp_path / "raw")
    write_task(tmp_path / "cards", tmp_path / "data")
    own = {**environment, "TIPS_BENCH_CARDS": str(tmp_path / "cards"), "TIPS_BENCH_DATA": str(tmp_path / "data")}
    settings = ["samples=10", "balance.members=[6, 3]", "duplicates.cells.above=0", "duplicates.cells.images=12"]
    asked = ["--encoder", "pixels", "--device", "cpu", "--dedup", "--decontaminate", TASK, "--balance", "--keep", "24"]
    command = [*TIPS_BENCH, "corpus", "curate", str(tmp_path / "raw"), *asked, *(word for value in settings for word in ("--set", value))]
    done = subprocess.run([*command, "--to", str(tmp_path / "here")], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with cluster_of_two(own) as (address, cluster):
        assert cluster.stdin is not None and cluster.stdout is not None
        on_ray = ["--on", "ray", "--ray", f"address={address},num_gpus=0,num_cpus=1", "--to", str(tmp_path / "there")]
        with subprocess.Popen([*command, *on_ray], env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
            until = time.monotonic() + 300
            while not list(tmp_path.glob("there/.curation/corpus/*.npz")) and run.poll() is None and time.monotonic() < until:
                time.sleep(0.1)
            print(file=cluster.stdin, flush=True)
            assert cluster.stdout.readline() == "one node\n"
            _, said = run.communicate(timeout=400)
        assert run.returncode == 0, said
    there = files(tmp_path / "there")
    dropped = {json.loads(line)["image"].split("/")[1] for line in there["dropped.jsonl"].splitlines()}
    assert len(dropped & {*planted}) == 7 and there == files(tmp_path / "here")
