"""Accumulating mIoU: our integer counts against mmsegmentation's IoUMetric, on the same maps in one process.

    python benchmarks/bench_metrics.py

Both start from uint8 label maps, as a PNG decoder gives them; IoUMetric gets the predictions both as bytes and as the int64 that
argmax gives in mmsegmentation's own loop. The rounds of all candidates are interleaved, and the best of each is reported. The
scores must agree, or it stops.

Axes: H W pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from mmseg.evaluation.metrics.iou_metric import IoUMetric

from tips_bench.metrics.segmentation import SegmentationCounts, count

# (height, width, classes, images): ADE20K's usual image, a VOC one, a small room of the embedded default.
CASES = [(512, 683, 150, 8), (375, 500, 21, 12), (224, 224, 20, 40), (64, 64, 20, 200)]
Maps = list[tuple[np.ndarray, np.ndarray]]


def draw(height: int, width: int, classes: int, images: int, rng: np.random.Generator) -> Maps:
    """(prediction_HW, labels_HW) pairs of blocks, two thirds of them right, a twentieth of the pixels ignored."""

    def blocks(low: int) -> np.ndarray:
        coarse = rng.integers(low, classes, (height // 16 + 1, width // 16 + 1), dtype=np.uint8)
        return np.kron(coarse, np.ones((16, 16), dtype=np.uint8))[:height, :width]

    pairs = []
    for _ in range(images):
        labels_HW = blocks(0)
        wrong_HW = rng.random((height, width)) < 1 / 3
        prediction_HW = np.where(wrong_HW, blocks(0), labels_HW)
        pairs.append((prediction_HW, np.where(rng.random((height, width)) < 0.05, np.uint8(255), labels_HW)))
    return pairs


def ours(maps: Maps, classes: int) -> float:
    """mIoU in percent through `count` and SegmentationCounts."""
    accumulator = SegmentationCounts(classes)
    for index, (prediction_HW, labels_HW) in enumerate(maps):
        accumulator.update(f"{index:06}", f"{index:06}", count(prediction_HW, labels_HW, classes))
    return float(accumulator.compute()["mIoU"])


def mmseg(maps: Maps, classes: int, dtype: torch.dtype) -> float:
    """mIoU in percent through IoUMetric's process and sums, without its logging and rounding."""
    metric = IoUMetric(prefix="mmseg")
    metric.dataset_meta = {"classes": [str(index) for index in range(classes)]}
    for prediction_HW, labels_HW in maps:
        sample = {"pred_sem_seg": {"data": torch.from_numpy(prediction_HW).to(dtype)}, "gt_sem_seg": {"data": torch.from_numpy(labels_HW)}}
        metric.process({}, [sample])
    totals = [sum(area.double() for area in areas) for areas in zip(*metric.results, strict=True)]
    return 100 * float(np.nanmean(metric.total_area_to_metrics(*totals)["IoU"]))


def best_of(candidates: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Best seconds of each candidate over interleaved rounds. Errors: two candidates that give another mIoU."""
    values = {name: run() for name, run in candidates.items()}
    if max(values.values()) - min(values.values()) > 1e-9:
        raise SystemExit(f"the scores differ: {values}")
    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for height, width, classes, images in CASES:
        maps = draw(height, width, classes, images, rng)
        candidates = {
            "ours": partial(ours, maps, classes),
            "mmseg uint8": partial(mmseg, maps, classes, torch.uint8),
            "mmseg int64": partial(mmseg, maps, classes, torch.int64),
        }
        milliseconds = {name: 1000 * seconds / images for name, seconds in best_of(candidates, options.rounds).items()}
        ratios = {name: value / milliseconds["ours"] for name, value in milliseconds.items() if name != "ours"}
        if options.json:
            print(json.dumps({"size": [height, width], "classes": classes, "ms_per_image": milliseconds, "times_faster": ratios}))
        else:
            shown = ", ".join(f"{name} {milliseconds[name]:.2f} ms ({ratio:.1f}x)" for name, ratio in ratios.items())
            print(f"{height}x{width}, {classes} classes: ours {milliseconds['ours']:.2f} ms an image, {shown}")


if __name__ == "__main__":
    main()
