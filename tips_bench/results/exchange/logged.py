"""Records shown by loggers: one run a record, with its metrics, the ends of their intervals, and what the record says of itself.

A record keeps its run: shown again, it is the same one (loggers.base.kept_id), as long as the folder is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tips_bench.loggers.base import open_loggers
from tips_bench.results.record import Record, file_name

PROJECT = "tips-bench"
SAID = ("task", "family", "protocol", "protocol_hash", "weights", "weights_sha256", "comparable", "seed", "git_commit", "created")


def log_record(record: Record, names: Sequence[str], store: Path) -> None:
    """Show a record in each logger. store: folder of all of them; each record has one of its own in it.

    Errors: a logger that is unknown, not installed or cannot be opened.
    """
    own = store / file_name(record.task) / file_name(record.model_name) / record.file.stem
    own.mkdir(parents=True, exist_ok=True)
    title = f"{record.model_name}, {record.task}, {record.protocol}"
    with closing(open_loggers(names, own, project=PROJECT, name=title, settings=_settings(record), store=store)) as loggers:
        loggers.numbers(0, numbers(record))


def numbers(record: Record) -> dict[str, float]:
    """ "mIoU", "mIoU/low" and "mIoU/high" of every metric that was scored, and what the record cost."""
    found: dict[str, float] = {}
    for name, metric in record.metrics.items():
        if math.isnan(metric.value):
            continue
        found[name] = metric.value
        if metric.ci95 is not None:
            found |= {f"{name}/low": metric.ci95[0], f"{name}/high": metric.ci95[1]}
    return found | {"cost/wall_s": record.cost.wall_s, "cost/images_per_s": record.cost.images_per_s}


def _settings(record: Record) -> dict[str, Any]:
    data = record.dataset
    return {
        **{name: getattr(record, name) for name in SAID},
        "model": record.model_name,
        "primary": record.primary,
        "unit": record.primary_metric.unit,
        "higher_is_better": record.primary_metric.higher_is_better,
        "deviations": "; ".join(map(str, record.deviations)),
        "dataset": f"{data.name} {data.split}",
        "samples": data.n,
        "fingerprint": data.fingerprint,
        "device": record.cost.device,
        "precision": record.cost.precision,
    }
