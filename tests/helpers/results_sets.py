"""Folders of records that look like real ones: counts drawn for models of known quality, cards as shipped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.metrics.segmentation import SegmentationCounts, summary
from tips_bench.results.cost import Cost
from tips_bench.results.protocol_hash import protocol_hash
from tips_bench.results.record import DatasetIdentity, MetricValue, Record, Selection, record_path
from tips_bench.results.statistics import intervals

CLASSES = ["wall", "floor", "chair", "table", "lamp", "plant"]
cached_card = cache(load_card)


def draw_counts(quality: float, number: int, *, task: str = "rooms-seg", seed: int = 0, classes: int = len(CLASSES)) -> SegmentationCounts:
    """quality: the share of pixels that are right, about. The images of a task are the same for all models and seeds."""
    images = np.random.default_rng(sum(map(ord, task)))
    model = np.random.default_rng([seed, int(1e6 * quality), sum(map(ord, task))])
    counts = SegmentationCounts(classes)
    for index in range(number):
        labeled = images.multinomial(4000, images.dirichlet(np.full(classes, 0.5)))
        hard, luck = images.beta(6, 3), model.normal(0, 0.12)
        hits = model.binomial(labeled, np.clip((quality + luck) * hard * np.linspace(1.25, 0.75, classes), 0, 1))
        wrong = model.multinomial(labeled.sum() - hits.sum(), np.full(classes, 1 / classes))
        counts.update(f"{task}/{index:04d}", f"room{index // 2}", np.stack([hits, hits + wrong, labeled]))
    return counts


def write_record(
    out: Path,
    model: str,
    quality: float,
    *,
    task: str = "rooms-seg",
    protocol: str = "convex-224",
    number: int = 24,
    seed: int = 0,
    pictures: int = 0,
    pictured: Sequence[int] = (),
    classes: Sequence[str] = CLASSES,
    encoder_s: float = 1.0,
    **changes: Any,
) -> Path:
    """A record with its counts and pictures where `tips-bench run` would put them.

    pictured: places of the samples that have a picture; without any, `pictures` are of nobody knows what, as in older records.
    """
    counts = draw_counts(quality, number, task=task, seed=seed, classes=len(classes))
    known = model if model in card_files("model") else "pixels"
    cards = {"task": cached_card("task", task), "protocol": cached_card("protocol", protocol), "model": cached_card("model", known)}
    model_card = cards["model"].model_dump(mode="json") | {"name": model}
    hash8 = f"{seed:08x}"
    path = record_path(out, task, model, protocol, hash8)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.removesuffix(".json")
    counts.save(path.parent / f"{stem}.samples.npz")
    values: dict[str, Any] = counts.compute()
    sure = intervals(counts.counts_N, counts.groups, summary)
    per_class = {
        name: {label: None if math.isnan(value) else float(value) for label, value in zip(classes, values[name], strict=True)}
        for name in ("IoU", "Acc")
    }
    names = []
    for index in range(1 + len(pictured) if pictured else pictures):
        names.append(f"{stem}-{index}.png")
        sheet = np.random.default_rng(index).integers(0, 255, (30, 124, 3), dtype=np.uint8)
        Image.fromarray(sheet).resize((1240, 300), Image.Resampling.NEAREST).save(path.parent / names[-1])
    fields: dict[str, Any] = {
        "task": task,
        "family": "segmentation",
        "protocol": protocol,
        "protocol_hash": protocol_hash(cards["protocol"].model_dump(mode="json")),
        "model": model,
        "weights_sha256": "none",
        "metrics": {
            name: MetricValue(value=values[name], unit="%", higher_is_better=True, ci95=sure[name], n=number) for name in counts.specs
        },
        "per_class": per_class,
        "primary": "mIoU",
        "comparable": True,
        "deviations": [],
        "probe": {"iterations": 28, "converged": True},
        "selection": Selection(metric="mIoU", grid=[{"penalty": 0.1}, {"penalty": 0.01}], scores=[40.0, 41.5], choice=1, held_out=8),
        "dataset": DatasetIdentity(
            name="folder", split="val", n=number, fingerprint="f" * 64, train_split="train", train_n=96, train_fingerprint="e" * 64,
            classes=list(classes),
        ),
        "cost": Cost(
            wall_s=2 * encoder_s, encoder_s=encoder_s, image_forwards=144, images_per_s=144 / encoder_s, peak_memory_mb=715.7,
            device="cpu, 2 threads", dtype="fp32",
        ),
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "git_commit": "0" * 40,
        "git_dirty": False,
        "command": f"tips-bench run --task {task} --model {model}",
        "created": "2026-01-02T03:04:05+00:00",
        "per_sample": f"{stem}.samples.npz",
        "pictures": names,
        "pictured": [counts.ids[place] for place in pictured],
        "seed": seed,
        "cards": {kind: card.model_dump(mode="json") for kind, card in cards.items()} | {"model": model_card},
    }  # fmt: skip
    Record(**(fields | changes)).save(path)
    return path
