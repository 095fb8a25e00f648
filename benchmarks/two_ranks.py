"""Two ranks of one thread against one process of two threads: seconds of an evaluation, start-up left out.

    python benchmarks/two_ranks.py [--rounds 3] [--train 96] [--val 16]

encoder: ridge on depth with a ViT-S/14 of random weights, nearly all of whose time is the encoder's. probe: `convex` on many patches of
the small tower tips-nano, most of whose time is the solver's. Both ways take turns; the fastest round counts. efficiency: time of one
process over that of two ranks, which use as many threads together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "encoder": ("rooms-depth", "convex-depth-224", "tips-s14", ["--weights", "random"], 3),
    "probe": ("rooms-seg", "convex", "tips-nano", ["--set", "probe.patches_per_image=1024"], 1),
}


def seconds(case: str, folder: Path, ranks: int, train: int, val: int) -> float:
    """Of one evaluation, as its record says."""
    task, protocol, model, more, fewer = CASES[case]
    numbers = f"train={train // fewer}", f"val={val}", "frames_per_scene=2"
    rooms = [word for number in numbers for word in ("--set", f"task.data.generator_options.{number}")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(2 // ranks),
        "TIPS_BENCH_CACHE": str(folder / case / "cache"),
    }  # cases have other rooms
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    named = ["--task", task, "--protocol", protocol, "--model", model, *more, *rooms, "--out", str(folder / "out")]
    command = [sys.executable, *launch, "-m", "tips_bench", "run", *named, "--device", "cpu", "--batch-size", "4", "--workers", "1"]
    shutil.rmtree(folder / "out", ignore_errors=True)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (path,) = (folder / "out").glob("*/*/[!.]*.json")
    return float(json.loads(path.read_text())["cost"]["wall_s"])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--train", type=int, default=96)
    parser.add_argument("--val", type=int, default=16)
    given = parser.parse_args()
    print("| most of the time is the | one process, two threads | two ranks, one thread each | efficiency |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as made:
        for case in CASES:
            found = [[seconds(case, Path(made), ranks, given.train, given.val) for ranks in (1, 2)] for _ in range(given.rounds)]
            one, two = (min(times) for times in zip(*found, strict=True))
            print(f"| {case} | {one:.1f} s | {two:.1f} s | {one / two:.2f} |", flush=True)


if __name__ == "__main__":
    main()
