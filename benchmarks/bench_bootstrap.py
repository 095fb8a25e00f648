"""The interval of mIoU, our one matrix product against the loop that recomputes the metric of every resample.

    python benchmarks/bench_bootstrap.py [--images 2000] [--classes 150] [--resamples 2000]

Both start from the counts of each image. The loop is what one writes first: draw images, add up their counts, take the metric. It gets
the same draws, and the resampled values must agree, or it stops. Ours is timed twice: those values alone, and the whole interval, which
also leaves out each image in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tips_bench.metrics.segmentation import SegmentationCounts, summary
from tips_bench.results.statistics import _collect, _resampled, intervals


def draw(images: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """counts_N3C of images that show a tenth of the classes each, about 70 % of the pixels right."""
    shown_NC = rng.random((images, classes)) < 0.1
    truth_NC = rng.integers(1, 20_000, (images, classes)) * shown_NC
    right_NC = (truth_NC * rng.uniform(0.4, 1.0, (images, classes))).astype(np.int64)
    wrong_NC = rng.integers(0, 500, (images, classes)) * (rng.random((images, classes)) < 0.15)
    return np.stack([right_NC, right_NC + wrong_NC, truth_NC], axis=1)


def loop(counts_N3C: np.ndarray, resamples: int) -> np.ndarray:
    """mIoU of each resample."""
    rng, found = np.random.default_rng(0), []
    for _ in range(resamples):
        chosen_N = rng.integers(0, len(counts_N3C), len(counts_N3C))
        found.append(float(summary(counts_N3C[chosen_N].sum(axis=0))["mIoU"]))
    return np.array(found)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result)."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    counts_N3C = draw(arguments.images, arguments.classes, np.random.default_rng(1))
    ids = [f"{index:06}" for index in range(len(counts_N3C))]
    product_s, ours = timed(lambda: _collect(summary, _resampled(counts_N3C, arguments.resamples, np.random.default_rng(0)))["mIoU"])
    interval_s, interval = timed(lambda: intervals(counts_N3C, ids, SegmentationCounts.summary, resamples=arguments.resamples)["mIoU"])
    loop_s, theirs = timed(lambda: loop(counts_N3C, arguments.resamples))
    if not np.allclose(ours, theirs, rtol=0, atol=1e-9):
        raise SystemExit("the resampled values differ")
    figures = {
        "resamples, s": round(product_s, 2),
        "whole interval, s": round(interval_s, 2),
        "loop, s": round(loop_s, 2),
        "loop / resamples": round(loop_s / product_s, 1),
        "loop / whole interval": round(loop_s / interval_s, 1),
        "interval, %": [round(value, 2) for value in interval],
    }
    print(json.dumps(figures, indent=1) if arguments.json else "\n".join(f"{name:25} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
