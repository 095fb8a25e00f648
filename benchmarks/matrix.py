"""A matrix of 3 models, 6 tasks and 2 protocols by every executor: time, images through the backbone, and the same records.

    python benchmarks/matrix.py [--train 16] [--val 8] [--folder FOLDER] [--without ray,submitit] [--empty-only]

one by one: a command for each evaluation, whose times are summed. shared: one command for all. local, submitit, ray: `--on`, two jobs at a
time (submitit's local executor starts all at once); Ray as a cluster of two nodes of one processor. Everything computes with one thread,
so that no bit can differ for its number. Two of the models are towers with random weights, whose cost is that of real ones: ViT-S/14 and a
ViT of half its width.
Fails if a record differs from that of its evaluation alone, but for cost, time of creation and command. --empty-only: no matrix, only what
a job of each executor costs that evaluates nothing.

The two protocols of a task are pairs that users compare: 224 px and 448 px for segmentation, depth and normals, which read the same rooms;
one caption or both; class names against the values of the last block or its output; one index of instances or one for each domain.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.terminal import printable

ROOT = Path(__file__).resolve().parent.parent
TASKS = {
    "rooms-seg": ("convex-224", "convex"),
    "rooms-depth": ("convex-depth-224", "convex-depth"),
    "rooms-normals": ("convex-normals-224", "convex-normals"),
    "rooms-retrieval": ("retrieval-224", "retrieval-224-both"),
    "rooms-zeroshot": ("tips-values", "patch-text"),
    "rooms-instances": ("uned", "uned-separate"),
}
TOWERS = {"vit-s14": (384, 6), "vit-ti14": (192, 3)}  # width, heads
VARYING = {"cost", "created", "command"}
EMPTY_JOBS = 6


def models(folder: Path) -> list[str]:
    """tips-nano, and the cards of towers of 12 blocks beside its text tower, written to the folder."""
    card = load_card("model", "tips-nano-random").model_dump(mode="json", exclude_none=True)
    tokenizer = card_files("model")["tips-nano-random"].parent / card["tokenizer"]["path"]
    found = ["tips-nano"]
    for name, (width, heads) in TOWERS.items():
        vision = {"embed_dim": width, "depth": 12, "num_heads": heads, "mlp_dim": 4 * width, "position_grid": [16, 16]}
        text = {**card["architecture"]["text"], "embed_dim": width, "num_heads": heads, "mlp_dim": 4 * width}
        own = {**card, "name": name, "embed_dim": width, "depth": 12, "architecture": {"vision": vision, "text": text}}
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**own, "tokenizer": {"path": str(tokenizer)}}))
        found.append(str(path))
    return found


def clocks(cluster: psutil.Process | None = None) -> np.ndarray:
    """(now, processor time of all children that have ended and of a cluster that runs), in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = used.ru_utime + used.ru_stime
    for process in [cluster, *cluster.children(recursive=True)] if cluster else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            processor_s += sum(process.cpu_times()[:4])  # its own, and its children's that have ended
    return np.array([time.perf_counter(), processor_s])


class Matrix:
    """Commands of one matrix in a folder, timed."""

    def __init__(self, folder: Path, train: int, val: int) -> None:
        self.folder, self.models = folder, models(folder)
        self.cluster: psutil.Process | None = None
        options = f"train={train}", f"val={val}", "frames_per_scene=2"
        self.rooms = [word for option in options for word in ("--set", f"task.data.generator_options.{option}")]
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "TIPS_BENCH_CACHE": str(folder / "cache"), "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self.environment["COLUMNS"] = "200"

    def seconds(self, out: str, tasks: Sequence[str], protocols: Sequence[str], model: str, *more: str, status: int = 0) -> np.ndarray:
        """(wall time, processor time) of `tips-bench run`, which has to end with this status."""
        named = "--task", ",".join(tasks), "--protocol", ",".join(protocols), "--model", model
        where = "--out", str(self.folder / out), "--device", "cpu", "--batch-size", "4", "--workers", "1"
        command = [sys.executable, "-m", "tips_bench", "run", *named, *where, *more]
        started = clocks(self.cluster)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != status:
            raise SystemExit(f"status {done.returncode} of {' '.join(command)}\n{printable(done.stderr)}")
        return clocks(self.cluster) - started

    def whole(self, out: str, *more: str) -> np.ndarray:
        """All evaluations by one command."""
        protocols = [name for pair in TASKS.values() for name in pair]
        return self.seconds(out, list(TASKS), protocols, ",".join(self.models), *self.rooms, *more)

    def draw(self) -> None:
        """The rooms of every task, so that no time contains it."""
        for task, (protocol, _) in TASKS.items():
            self.seconds("drawn", [task], [protocol], "tips-nano", *self.rooms)

    def one_by_one(self) -> np.ndarray:
        """A command for each evaluation: the sum of their times."""
        cells = [(task, name, model) for model in self.models for task, pair in TASKS.items() for name in pair]
        return np.sum([self.seconds("alone", [task], [name], model, *self.rooms) for task, name, model in cells], axis=0)

    def empty_jobs(self, out: str, *more: str) -> np.ndarray:
        """Jobs that evaluate nothing, for their data are not there."""
        towers = [name for name in card_files("model") if name.startswith("dinov2")][:EMPTY_JOBS]
        nowhere = "--data-root", str(self.folder / "nowhere")
        return self.seconds(out, ["ade20k"], ["convex"], ",".join(towers), *nowhere, *more, status=2)

    def results(self, out: str) -> dict[str, tuple[dict[str, Any], bytes]]:
        """Of each record by its path: all but what may differ, and the bytes of its counts."""
        found = {}
        for path in sorted((self.folder / out).glob("*/*/[!.]*.json")):
            record = json.loads(path.read_text())
            rest = {key: value for key, value in record.items() if key not in VARYING}
            found[str(path.relative_to(self.folder / out))] = rest, path.with_name(record["per_sample"]).read_bytes()
        return found

    def images(self, out: str) -> int:
        """Through the backbone, in all records."""
        paths = (self.folder / out).glob("*/*/[!.]*.json")
        return sum(json.loads(path.read_text())["cost"]["image_forwards"] for path in paths)


@contextmanager
def ray_cluster(matrix: Matrix) -> Iterator[str]:
    """The address of two nodes of one processor each, whose processor time counts in the matrix."""
    script = [sys.executable, str(ROOT / "tests" / "helpers" / "ray_cluster.py")]
    with subprocess.Popen(
        script, env=matrix.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        try:
            address = cluster.stdout.readline().strip()
            matrix.cluster = psutil.Process(cluster.pid)
            yield address
        finally:
            matrix.cluster = None
            print(file=cluster.stdin, flush=True)
            cluster.stdin.close()


def print_row(name: str, seconds: np.ndarray, alone_s: np.ndarray, images: int, empty: np.ndarray) -> None:
    """Of an executor."""
    cells = [name, f"{seconds[0]:.0f} s", f"{seconds[0] / alone_s[0]:.2f}", f"{seconds[1]:.0f} s", f"{images:,}"]
    print(f"| {' | '.join([*cells, *a_job(empty)])} |", flush=True)


def a_job(empty: np.ndarray) -> list[str]:
    """(wall time, processor time) of one of the jobs that evaluate nothing."""
    return [f"{seconds / EMPTY_JOBS:.1f} s" for seconds in empty]


def measure(matrix: Matrix, name: str, options: Sequence[str], alone_s: np.ndarray | None) -> None:
    """An executor's row; without single runs only what a job costs. Errors: its records differ from those of single runs."""
    if alone_s is None:
        print(f"| {' | '.join([name, *a_job(matrix.empty_jobs(name, *options))])} |", flush=True)
        return
    seconds = matrix.whole(name, *options)
    print_row(name, seconds, alone_s, matrix.images(name), matrix.empty_jobs(f"{name}-empty", *options))
    if matrix.results(name) != matrix.results("alone"):
        raise SystemExit(f"records of {name} differ from those of single runs: see {matrix.folder}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=16)
    parser.add_argument("--val", type=int, default=8)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--without", default="")
    parser.add_argument("--empty-only", action="store_true")
    given = parser.parse_args()
    without = given.without.split(",")
    with tempfile.TemporaryDirectory() as made:
        folder = (given.folder or Path(made)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        matrix = Matrix(folder, given.train, given.val)
        alone_s = None if given.empty_only else one_by_one(matrix)
        if alone_s is None:
            print("| a job that evaluates nothing, by | wall time | processor time |\n|---|---|---|")
        measure(matrix, "shared", (), alone_s)
        measure(matrix, "local", ("--on", "local", "--jobs", "2"), alone_s)
        if "submitit" not in without:
            measure(matrix, "submitit", ("--on", "slurm", "--slurm", "cluster=local"), alone_s)
        if "ray" not in without:
            with ray_cluster(matrix) as address:
                measure(matrix, "ray", ("--on", "ray", "--ray", f"address={address},num_gpus=0,num_cpus=1"), alone_s)
        if alone_s is not None:
            print(f"{len(matrix.results('alone'))} records each way, the same but for {', '.join(sorted(VARYING))}")


def one_by_one(matrix: Matrix) -> np.ndarray:
    """(wall time, processor time) of single runs; prints the head of the table and their row."""
    matrix.draw()
    alone_s = matrix.one_by_one()
    print("| by | wall time | of the sum | processor time | images | a job that evaluates nothing: wall time | processor time |")
    print("|---|---|---|---|---|---|---|")
    print_row("one by one", alone_s, alone_s, matrix.images("alone"), matrix.empty_jobs("empty"))
    return alone_s


if __name__ == "__main__":
    main()
