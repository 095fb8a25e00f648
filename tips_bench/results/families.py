"""What a task family counts, and how its numbers follow from summed counts.

A record names its family; everything else about its per-sample file follows from the entry here. A new family adds one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tips_bench.errors import unknown_name
from tips_bench.metrics import classification, depth, instances, normals, points, retrieval, segmentation
from tips_bench.metrics.samples import SampleCounts
from tips_bench.results.record import Record
from tips_bench.results.statistics import Summary


@dataclass(frozen=True)
class Family:
    """counts: an empty SampleCounts of the record's shape. summary: summed counts ... -> metric -> values of shape ....

    per_class: metric -> (name of its per-class score, summed counts ... -> values of shape ...C), for metrics that are means over
    classes. item: what one sample is, in the plural.
    """

    counts: Callable[[Record], SampleCounts]
    summary: Summary
    per_class: Mapping[str, tuple[str, Callable[[np.ndarray], Any]]]
    item: str


def _points_of_class(name: str, counts: np.ndarray) -> np.ndarray:
    return points.class_scores(counts)[name]


def _candidates(record: Record) -> int:
    """How many heads a record of the family classification scored beside the chosen one."""
    return len(record.selection.grid) if record.selection and "top1-best-on-test" in record.metrics else 0


def _instances_of_domain(name: str, counts: np.ndarray) -> Any:
    return instances.domain_scores(counts)[name]


_SEGMENTATION = Family(
    counts=lambda record: segmentation.SegmentationCounts(len(record.dataset.classes)),
    summary=segmentation.summary,
    per_class={
        "mIoU": ("IoU", lambda counts: segmentation.class_scores(counts)["IoU"]),
        "mAcc": ("Acc", lambda counts: segmentation.class_scores(counts)["Acc"]),
    },
    item="images",
)
FAMILIES: dict[str, Family] = {
    "segmentation": _SEGMENTATION,
    "zeroshot-segmentation": _SEGMENTATION,
    "depth": Family(counts=lambda record: depth.DepthCounts(), summary=depth.summary, per_class={}, item="images"),
    "normals": Family(counts=lambda record: normals.NormalsCounts(), summary=normals.summary, per_class={}, item="images"),
    "point-segmentation": Family(
        counts=lambda record: points.PointCounts(len(record.dataset.classes)),
        summary=points.summary,
        per_class={
            f"m{name}_{scored}": (f"{name}_{scored}", partial(_points_of_class, f"{name}_{scored}"))
            for scored in points.SCORED
            for name in ("IoU", "Acc")
        },
        item="scans",
    ),
    "retrieval": Family(
        counts=lambda record: retrieval.RetrievalCounts(retrieval.embeddings_in(record.metrics)),
        summary=retrieval.summary,
        per_class={},
        item="images",
    ),
    "classification": Family(
        counts=lambda record: classification.counts_of(_candidates(record)),
        summary=classification.summary,
        per_class={},
        item="images",
    ),
    "instance-retrieval": Family(
        counts=lambda record: instances.InstanceCounts(len(record.dataset.classes)),
        summary=instances.summary,
        per_class={name: (f"domain {name}", partial(_instances_of_domain, name)) for name in instances.InstanceCounts.specs},
        item="queries",
    ),
}


def family_of(record: Record, *, where: object = None) -> Family:
    """The family of a record. Errors: one that this version does not know."""
    if record.family not in FAMILIES:
        raise unknown_name("family", record.family, FAMILIES, where=where)
    return FAMILIES[record.family]
