"""Records with their counts, drawn from a model of which the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.records import record
from tips_bench.metrics.segmentation import SegmentationCounts, summary
from tips_bench.results.record import DatasetIdentity, MetricValue, Record
from tips_bench.results.statistics import intervals


def pair(rng: np.random.Generator, number: int, classes: int, *, drop: float = 0.0, groups: int | None = None) -> np.ndarray:
    """Counts of two models on the same images, shape (N, 2, 3, C); the second is worse by `drop` in the share of right pixels.

    An image holds four classes, drawn by Zipf's law, the rare ones hard. How hard an image is, is shared by both models, and by the
    images of a group, so that what is paired and what is clustered matters.
    """
    frequency_C = 1 / np.arange(1, classes + 1)
    chosen_N4 = rng.choice(classes, (number, 4), p=frequency_C / frequency_C.sum())
    group_N = np.arange(number) if groups is None else np.arange(number) % groups
    shared_N = rng.normal(0, 0.12, number if groups is None else groups)[group_N]
    level_N4 = np.linspace(0.85, 0.45, classes)[chosen_N4] + shared_N[:, None]
    own_G2 = rng.normal(0, 0.05, (number if groups is None else groups, 2))
    counts_N23C = np.zeros((number, 2, 3, classes), dtype=np.int64)
    image_N4 = np.arange(number)[:, None].repeat(4, 1)
    for model, worse in enumerate((0.0, drop)):
        share_N4 = np.clip(level_N4 - worse + own_G2[group_N, model][:, None] + rng.normal(0, 0.08, (number, 4)), 0, 1)
        hits_N4 = (100 * share_N4).astype(int)
        mistaken_N4 = np.take_along_axis(chosen_N4, rng.integers(0, 4, (number, 4)), 1)
        for row, class_N4, pixels in (
            (0, chosen_N4, hits_N4),
            (1, chosen_N4, hits_N4),
            (0, np.where(mistaken_N4 == chosen_N4, mistaken_N4, -1), 100 - hits_N4),
            (1, mistaken_N4, 100 - hits_N4),
            (2, chosen_N4, 100),
        ):
            kept = class_N4 >= 0
            values = np.broadcast_to(pixels, class_N4.shape)[kept]
            np.add.at(counts_N23C, (image_N4[kept], model, row, class_N4[kept]), values)
    return counts_N23C


def names(number: int) -> list[str]:
    return [f"image-{index:05}" for index in range(number)]


def save_record(
    path: Path, counts_N3C: np.ndarray, *, groups: list[str] | None = None, ids: list[str] | None = None, **changes: Any
) -> Record:
    """Write a record of these counts and the counts beside it; any field may be changed."""
    number, _, classes = counts_N3C.shape
    ids = ids or names(number)
    counts = SegmentationCounts(classes)
    for id, group, counts_3C in zip(ids, groups or ids, counts_N3C, strict=True):
        counts.update(id, group, counts_3C)
    values = counts.compute()
    sure = intervals(counts.counts_N, counts.groups, summary, resamples=200)
    fields: dict[str, Any] = {
        "metrics": {
            name: MetricValue(value=float(values[name]), unit="%", higher_is_better=True, ci95=sure[name], n=number)
            for name in ("mIoU", "aAcc", "mAcc")
        },
        "dataset": DatasetIdentity(
            name="set", split="val", n=number, fingerprint="f" * 64, train_split="train", train_n=9, train_fingerprint="e" * 64,
            classes=[f"class {index}" for index in range(classes)],
        ),
        "per_sample": f"{path.stem}.samples.npz",
    }  # fmt: skip
    arguments = {"task": "rooms-seg", "model": "tips-b14", "protocol": "convex"} | fields | changes
    written = record(arguments.pop("task"), arguments.pop("model"), arguments.pop("protocol"), **arguments)
    written.save(path)
    counts.save(path.with_name(written.per_sample))
    return written
