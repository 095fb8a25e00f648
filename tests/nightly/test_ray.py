"""A list of evaluations on a Ray cluster of two nodes, of which one is taken away: the records of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6", "frames_per_scene=2")]
RUN = ["run", "--task", "rooms-seg,rooms-depth", "--protocol", "convex-224,convex-depth-224", "--model", "tips-nano,pixels"]
RUN += [word for change in (*ROOMS, "image.short_side=56") for word in ("--set", change)]
RUN += ["--device", "cpu", "--batch-size", "1", "--workers", "0"]
VARYING = {"cost", "created", "command"}

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]


def results(out: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in out.glob("rooms-*/*/[!.]*.json"):
        record = json.loads(path.read_text())
        rest = {key: value for key, value in record.items() if key not in VARYING}
        found[str(path.relative_to(out))] = rest, path.with_name(record["per_sample"]).read_bytes()
    return found


def test_a_node_that_is_taken_away_costs_no_record(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray: pip install -e '.[ray]'")
    own = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **own, "TIPS_BENCH_CACHE": str(tmp_path / "cache")}
    tips_bench = [sys.executable, "-m", "tips_bench"]
    alone = subprocess.run([*tips_bench, *RUN, "--out", str(tmp_path / "alone")], env=environment, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    script = [sys.executable, str(ROOT / "tests" / "helpers" / "ray_cluster.py")]
    with subprocess.Popen(script, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        on_ray = ["--on", "ray", "--ray", f"address={address},num_gpus=0,num_cpus=1", "--out", str(tmp_path / "ray")]
        with subprocess.Popen([*tips_bench, *RUN, *on_ray], env=environment, stderr=subprocess.PIPE, text=True) as run:
            until = time.monotonic() + 300
            while len(list(tmp_path.glob("ray/.matrix/*.running"))) < 2 and time.monotonic() < until:
                time.sleep(0.1)
            print(file=cluster.stdin, flush=True)
            assert cluster.stdout.readline() == "one node\n"
            _, said = run.communicate(timeout=400)
        assert run.returncode == 0, said
        cluster.stdin.close()
    assert len(results(tmp_path / "ray")) == 4 and results(tmp_path / "ray") == results(tmp_path / "alone")
