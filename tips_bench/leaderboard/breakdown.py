"""A record's score class by class and sample by sample: what pages show of it besides the number itself.

Everything follows from what the class of a family's counts declares: `per_class` for classes (or categories, domains, angles), `summary`
for one sample alone, `item` for what a sample is.

Axes: N samples, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tips_bench.metrics.spec import MetricSpec
from tips_bench.results.counts import Scored

# hash of ids and groups -> these, so that records of the same samples hold them once
Shared = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


@dataclass(frozen=True, eq=False)
class ByClass:
    """name: of the per-class score. drawn_RC: float32, the score of each resample. samples_C, groups_C: how many hold the class."""

    name: str
    spec: MetricSpec
    labels: list[str]
    values_C: np.ndarray
    drawn_RC: np.ndarray
    samples_C: np.ndarray
    groups_C: np.ndarray


@dataclass(frozen=True, eq=False)
class BySample:
    """The primary metric of each sample alone, NaN where it has nothing to score. ids, groups: shared by all records of the same samples.

    item: what a sample is, in the plural.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    item: str
    values_N: np.ndarray


def by_class(scored: Scored, totals: np.ndarray) -> ByClass | None:
    """The per-class score that the primary metric is a mean of, else the family's first; None where it has none.

    totals: the summed counts of each resample, shape (R, ...). A sample holds a class if all per-class scores of the family are defined
    for it, so a class that is only predicted does not count.
    """
    family, counts_N = scored.family, scored.counts.counts_N
    if not family.per_class:
        return None
    name, score = family.per_class.get(scored.record.primary) or next(iter(family.per_class.values()))
    holds_NC = np.all([~np.isnan(one(counts_N)) for _, one in family.per_class.values()], axis=0)
    names, group_N = np.unique(np.asarray(scored.counts.groups, dtype=str), return_inverse=True)
    held_GC = np.zeros((len(names), holds_NC.shape[1]), dtype=bool)
    sample_K, class_K = np.nonzero(holds_NC)
    held_GC[group_N[sample_K], class_K] = True
    return ByClass(
        name=name,
        spec=family.per_class_specs[name],
        labels=scored.record.dataset.classes,
        values_C=np.asarray(score(scored.counts.total())),
        drawn_RC=np.asarray(score(totals), dtype=np.float32),
        samples_C=holds_NC.sum(axis=0),
        groups_C=held_GC.sum(axis=0),
    )


def by_sample(scored: Scored, samples: str, known: Shared) -> BySample:
    """samples: the hash of the record's ids and groups. known: those of earlier records; this one's are added."""
    counts = scored.counts
    ids, groups = known.setdefault(samples, (tuple(counts.ids), tuple(counts.groups)))
    values_N = np.asarray(counts.summary(counts.counts_N)[scored.record.primary], dtype=np.float64)
    return BySample(ids, groups, counts.item, values_N)


def confusion(scored: Scored) -> np.ndarray | None:
    """How often each labeled class was predicted as each class, shape (C, C), where counts of the record hold it."""
    return next((one.total() for one in (scored.counts, *scored.beside.values()) if one.confusion), None)
