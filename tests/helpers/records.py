"""A record to test with."""

from __future__ import annotations

from typing import Any

from tips_bench.results.cost import Cost
from tips_bench.results.record import DatasetIdentity, Deviation, MetricValue, Record


def said(*sentences: str) -> list[Deviation]:
    """Deviations that are sentences."""
    return [Deviation(card="probe", text=sentence) for sentence in sentences]


def record(task: str, model: str, protocol: str | None, **changes: Any) -> Record:
    """A record of 41.25 % mIoU, between 40 and 42.5, with any field changed."""
    fields: dict[str, Any] = {
        "task": task,
        "family": "segmentation",
        "protocol": protocol or "convex",
        "protocol_hash": "0" * 64,
        "model": model,
        "weights_sha256": "random:0",
        "metrics": {"mIoU": MetricValue(value=41.25, unit="%", higher_is_better=True, ci95=(40.0, 42.5), n=3)},
        "primary": "mIoU",
        "comparable": True,
        "deviations": [],
        "dataset": DatasetIdentity(
            name=task, split="val", n=3, fingerprint="f", train_split="train", train_n=3, train_fingerprint="g", classes=["a"]
        ),
        "cost": Cost(wall_s=1.0, encoder_s=0.9, image_forwards=6, images_per_s=6.0, peak_memory_mb=1.0, device="cpu", dtype="fp32"),
        "versions": {},
        "git_commit": None,
        "git_dirty": None,
        "command": "",
        "created": "",
        "per_sample": f"{protocol or 'convex'}-01234567.samples.npz",
        "seed": 0,
        "cards": {},
    }
    return Record(**(fields | changes))
