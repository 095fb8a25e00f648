"""A memory of many patches on two processors: how large the process gets, how long an image takes, and which neighbors are found.

    python benchmarks/bench_patch_memory.py --patches 10000000 --dim 768 --folder /disk/with/16/GB
    python benchmarks/bench_patch_memory.py --patches 10000000 --dim 768 --folder /disk/with/16/GB --keep --exact-only

--keep leaves the file of vectors for the next call. Seconds are the processor's, of all threads, and those of the clock.

The vectors are synthetic: points around random centers, in bfloat16 on the disk, as a run keeps the patches of a training split. Nothing
here says how good an encoder is. All points share the directions in which they are spread, so a cell of an index holds points of many
centers, and an index finds fewer neighbors than among the features of an encoder. Peaks of memory are those of the whole process, torch
and what is mapped of files included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tips_bench.features.cache import to_disk
from tips_bench.features.patch_search import PatchSearch, SearchCard, build_index, found_share

BLOCK = 1 << 14
QUERIES = 1024  # patches of an image of 512 px with patches of 16 px
SPREAD = 64
K = 30


def write(path: Path, patches: int, dim: int, centers: int) -> None:
    """Points around random centers, spread as far as the centers are from zero in SPREAD directions; a function of their number alone."""
    draw = np.random.default_rng(0)
    center_CD = draw.standard_normal((centers, dim), dtype=np.float32)
    direction_SD = draw.standard_normal((SPREAD, dim), dtype=np.float32) / SPREAD**0.5
    with path.open("wb") as file:
        for start in range(0, patches, BLOCK):
            draw, rows = np.random.default_rng([1, start]), min(BLOCK, patches - start)
            points_nD = center_CD[draw.integers(centers, size=rows)] + draw.standard_normal((rows, SPREAD), dtype=np.float32) @ direction_SD
            file.write(to_disk(torch.from_numpy(points_nD).bfloat16()).tobytes())


def peak_gb() -> float:
    """The greatest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--patches", type=int, default=1_000_000)
    options.add_argument("--dim", type=int, default=768)
    options.add_argument("--centers", type=int, default=20_000)
    options.add_argument("--lists", type=int, default=1024)
    options.add_argument("--code-bytes", type=int, default=192)
    options.add_argument("--probes", type=int, nargs="+", default=[16, 64])
    options.add_argument("--candidates", type=int, nargs="+", default=[30, 120])
    options.add_argument("--exact-only", action="store_true", help="Build no index.")
    options.add_argument("--keep", action="store_true", help="Leave the file of vectors, or take the one that is there.")
    options.add_argument("--folder", type=Path, default=Path("."))
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    path = chosen.folder / f"patches-{chosen.patches}-{chosen.dim}.bin"
    try:
        if not (chosen.keep and path.exists()):
            write(path, chosen.patches, chosen.dim, chosen.centers)
        measure(chosen, np.memmap(path, np.int16, "c", shape=(chosen.patches, chosen.dim)))
    finally:
        if not chosen.keep:
            path.unlink(missing_ok=True)


def measure(chosen: argparse.Namespace, features_ND: np.ndarray) -> None:
    """Search exactly, then by an index; a line of JSON for each setting."""
    rows_M = np.arange(chosen.patches)
    about = {"patches": chosen.patches, "dim": chosen.dim, "bf16_gb": features_ND.nbytes / 1e9, "threads": chosen.threads}
    print(json.dumps(about | {"queries": QUERIES, "peak_gb": peak_gb()}), flush=True)
    queries_QD = torch.from_numpy(np.array(features_ND[:QUERIES])).view(torch.bfloat16).float()
    true, took = timed(lambda: PatchSearch(features_ND, rows_M).nearest(queries_QD, K))
    print(json.dumps({"search": "exact"} | took), flush=True)
    if chosen.exact_only:
        return
    options = {"type": "ivf-pq", "lists": chosen.lists, "code_bytes": chosen.code_bytes}
    first = SearchCard(probes=chosen.probes[0], **options)
    index, took = timed(lambda: build_index(PatchSearch(features_ND, rows_M, first)))
    print(json.dumps({"build": options} | took), flush=True)
    for probes, candidates in itertools.product(chosen.probes, chosen.candidates):
        index.nprobe = probes
        search = PatchSearch(features_ND, rows_M, SearchCard(probes=probes, candidates=candidates, **options), index=index)
        found, took = timed(lambda search=search: search.nearest(queries_QD, K))
        told = {"search": "ivf-pq", "probes": probes, "candidates": candidates, "recall_at_30": found_share(found.rows_Qk, true.rows_Qk)}
        print(json.dumps(told | took), flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What comes out; seconds of the processor and of the clock, and the peak of memory so far."""
    processor, clock = time.process_time(), time.perf_counter()
    found = work()
    return found, {"processor_s": time.process_time() - processor, "clock_s": time.perf_counter() - clock, "peak_gb": peak_gb()}


if __name__ == "__main__":
    main()
