"""Two ranks of one thread against one process of two threads: seconds of an evaluation.

    python benchmarks/two_ranks.py [--case encoder,...] [--rounds 3] [--train 96] [--val 16]

encoder: ridge on depth with a ViT-S/14 of random weights, nearly all of whose time is the encoder's. solved probe: `convex` on many patches
of the small tower tips-nano, most of whose time is the solver's. trained probe: `linear-tips`, 40 steps of 16 random crops for eight heads.
Both ways take turns; the fastest round counts. Wall time is without start-up. efficiency: wall time of one process over that of two
ranks, which use as many threads together. Processor time is that of all threads and ranks, with start-up; other jobs change it less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("image.short_side=224", "probe.augment.crop_size=224", "probe.augment.short_side=224")
CROPS = [word for value in (*SIZES, "probe.iterations=40", "probe.warmup=1") for word in ("--set", value)]
CASES = {
    "encoder": ("rooms-depth", "convex-depth-224", "tips-s14", ["--weights", "random"], 3),
    "solved probe": ("rooms-seg", "convex", "tips-nano", ["--set", "probe.patches_per_image=1024"], 1),
    "trained probe": ("rooms-seg", "linear-tips", "tips-nano", CROPS, 3),
}


def seconds(case: str, folder: Path, ranks: int, train: int, val: int) -> np.ndarray:
    """(wall time, processor time) of one evaluation: as its record says, and of its processes."""
    task, protocol, model, more, fewer = CASES[case]
    numbers = f"train={train // fewer}", f"val={val}", "frames_per_scene=2"
    rooms = [word for number in numbers for word in ("--set", f"task.data.generator_options.{number}")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(2 // ranks),
        "TIPS_BENCH_CACHE": str(folder / case.replace(" ", "-") / "cache"),
    }  # cases have other rooms
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    named = ["--task", task, "--protocol", protocol, "--model", model, *more, *rooms, "--out", str(folder / "out")]
    command = [sys.executable, *launch, "-m", "tips_bench", "run", *named, "--device", "cpu", "--batch-size", "4", "--workers", "1"]
    shutil.rmtree(folder / "out", ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (path,) = (folder / "out").glob("*/*/[!.]*.json")
    wall_s = json.loads(path.read_text())["cost"]["wall_s"]
    return np.array([wall_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", default=",".join(CASES), help="one or more, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=96)
    parser.add_argument("--val", type=int, default=16)
    given = parser.parse_args()
    print("| most of the time is the | one process, two threads | two ranks, one thread each | efficiency | processor time |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        for case in given.case.split(","):
            found = [[seconds(case, Path(made), ranks, given.train, given.val) for ranks in (1, 2)] for _ in range(given.rounds)]
            (one, one_processor), (two, two_processor) = np.min(found, axis=0)
            processor = f"{one_processor:.1f} s, {two_processor:.1f} s"
            print(f"| {case} | {one:.1f} s | {two:.1f} s | {one / two:.2f} | {processor} |", flush=True)


if __name__ == "__main__":
    main()
