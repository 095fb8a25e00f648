"""Two records of the same task: is B better than A, by how much, how sure, on which classes and on which samples.

Only records of the same data, protocol and samples are compared, for the test is paired; what differs is said otherwise. Folders
are compared cell by cell.

Axes: N samples, 2 the pair A and B, C classes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tips_bench.errors import UserError
from tips_bench.plain_data import null_for_nan
from tips_bench.results.counts import Scored, load_scored, mismatches
from tips_bench.results.folders import read_records
from tips_bench.results.record import Record
from tips_bench.results.same_model import measurement_key, model_key, shared_names
from tips_bench.results.statistics import ALPHA, Difference, adjusted, contributions, differences

Verdict = Literal["B is better", "A is better", "cannot tell"]


@dataclass(frozen=True)
class ClassDifference:
    """One class. q: p, adjusted for the number of classes."""

    name: str
    difference: Difference
    q: float


@dataclass(frozen=True)
class SampleDifference:
    """One sample. a, b: the primary metric of this sample alone. gain: B's lead on it, positive where B is better; NaN: not scored.

    effect: by how much the sample raises B's lead on the whole set (lowers it: negative).
    """

    id: str
    a: float
    b: float
    gain: float
    effect: float


@dataclass(frozen=True)
class Comparison:
    """metrics: the primary one first. classes: of the primary metric, where it is a mean over classes. samples: B's greatest loss first.

    q: p of the primary metric, adjusted for the number of cells compared with it.
    """

    a: Scored
    b: Scored
    metrics: dict[str, Difference]
    classes: list[ClassDifference]
    samples: list[SampleDifference]
    q: float

    @property
    def primary(self) -> Difference:
        return self.metrics[self.a.record.primary]

    @property
    def gain(self) -> float:
        """B's lead on the primary metric in its unit: positive where B is better, whatever the metric's direction."""
        return self.a.record.primary_metric.spec.gain(self.primary.b, self.primary.a)

    @property
    def gain_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `gain`."""
        if self.primary.interval is None:
            return None
        low, high = sorted(self.a.record.primary_metric.spec.gain(end, 0.0) for end in self.primary.interval)
        return low, high

    @property
    def verdict(self) -> Verdict:
        """A difference is told only where the interval excludes zero and the randomisation test agrees at 5 %."""
        interval = self.gain_interval
        if interval is None or math.isnan(self.q) or self.q > ALPHA or interval[0] <= 0 <= interval[1]:
            return "cannot tell"
        return "B is better" if interval[0] > 0 else "A is better"

    def __repr__(self) -> str:
        from tips_bench.results.comparison_text import sentence

        a, b = self.a.record, self.b.record
        return f"<Comparison {a.task}, {a.protocol}, A = {a.model_name}, B = {b.model_name}: {sentence(self)}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from tips_bench.results.comparison_html import comparison_html

        return comparison_html(self)


def compare(a: str | Path | Record | Scored, b: str | Path | Record | Scored, *, detail: bool = True) -> Comparison:
    """Compare two records, or those in two files. detail: classes and samples, too.

    Errors: as `load_scored`; records that are not alike, with what differs.
    """
    a, b = (one if isinstance(one, Scored) else load_scored(one) for one in (a, b))
    wrong = mismatches(a, b)
    if wrong:
        raise UserError(
            f"cannot be compared with {a.path}, because these differ: {'; '.join(wrong)}",
            where=b.path,
            fix="Compare records of the same task, data set and protocol.",
        )
    name, family = a.record.primary, a.family
    counts_N2 = np.stack([a.counts.counts_N, b.counts.counts_N], axis=1)
    per_class = family.per_class.get(name) if detail else None
    labels = a.record.dataset.classes

    def summary(counts_x: np.ndarray) -> dict[str, np.ndarray]:
        values = dict(family.summary(counts_x))
        if per_class is not None:
            values_xC = per_class[1](counts_x)
            values |= {f"class {index}": values_xC[..., index] for index in range(len(labels))}
        return values

    found = differences(counts_N2, a.counts.groups, summary) | _beside(a, b)
    metrics = {key: found[key] for key in sorted(a.record.metrics, key=lambda key: key != name) if key in found}
    classes = [(label, found[f"class {index}"]) for index, label in enumerate(labels)] if per_class is not None else []
    scored = [(label, one) for label, one in classes if not math.isnan(one.value)]
    q = adjusted([one.p for _, one in scored])
    return Comparison(
        a=a,
        b=b,
        metrics=metrics,
        classes=[ClassDifference(label, one, q_class) for (label, one), q_class in zip(scored, q, strict=True)],
        samples=_samples(a, counts_N2) if detail else [],
        q=found[name].p,
    )


def _beside(a: Scored, b: Scored) -> dict[str, Difference]:
    """The metrics beside the family's own that both records hold, on the same samples."""
    found: dict[str, Difference] = {}
    for name in a.beside.keys() & b.beside.keys():
        one, two = a.beside[name], b.beside[name]
        if (one.ids, one.groups) == (two.ids, two.groups):
            found |= differences(np.stack([one.counts_N, two.counts_N], axis=1), one.groups, one.summary)
    return found


def _samples(a: Scored, counts_N2: np.ndarray) -> list[SampleDifference]:
    name, summary, metric = a.record.primary, a.family.summary, a.record.primary_metric.spec
    effects_N = metric.gain(contributions(counts_N2, summary)[name], np.zeros(len(counts_N2)))
    alone_N2 = summary(counts_N2)[name]
    gains_N = metric.gain(alone_N2[:, 1], alone_N2[:, 0])
    order = np.lexsort((np.nan_to_num(effects_N), np.nan_to_num(gains_N)))  # by gain, then by effect
    ids = a.counts.ids
    return [SampleDifference(ids[i], *(float(x) for x in (*alone_N2[i], gains_N[i], effects_N[i]))) for i in order]


@dataclass(frozen=True)
class Suite:
    """Two folders. unlike: cell -> why it cannot be compared. only_a, only_b: cells of one folder. broken: records nobody can read."""

    comparisons: dict[str, Comparison]
    unlike: dict[str, list[str]]
    only_a: list[str]
    only_b: list[str]
    broken: list[UserError]


def compare_folders(folder_a: str | Path, folder_b: str | Path) -> Suite:
    """Every cell that both folders hold, without classes and samples; q over all of them.

    A cell is a task, a model and a protocol; one checkpoint under two paths is one model. Where each folder holds a single model, its
    name does not matter: that is how a checkpoint is compared with another one. Errors: a folder without records, two records of one cell
    with different numbers.
    """
    (left, broken_a), (right, broken_b) = (read_records(folder, load_scored) for folder in (folder_a, folder_b))
    names = shared_names(one.record for one in (*left, *right))
    by_model = not all(len({model_key(one.record) for one in side}) == 1 for side in (left, right))
    cells_a, cells_b = (_cells(side, names if by_model else None) for side in (left, right))
    both = [cell for cell in cells_a if cell in cells_b]
    unlike = {cell: wrong for cell in both if (wrong := mismatches(cells_a[cell], cells_b[cell]))}
    found = {cell: compare(cells_a[cell], cells_b[cell], detail=False) for cell in both if cell not in unlike}
    q = adjusted([one.primary.p for one in found.values()])
    return Suite(
        comparisons={cell: replace(one, q=q_cell) for (cell, one), q_cell in zip(found.items(), q, strict=True)},
        unlike=unlike,
        only_a=[cell for cell in cells_a if cell not in cells_b],
        only_b=[cell for cell in cells_b if cell not in cells_a],
        broken=broken_a + broken_b,
    )


def _cells(records: list[Scored], names: dict[str, str] | None) -> dict[str, Scored]:
    """names: of the models by their key; None = the model does not tell cells apart. Of one measurement made twice the newer is taken."""
    cells: dict[str, Scored] = {}
    for one in sorted(records, key=lambda one: (one.record.created, str(one.path))):
        parts = [one.record.task, *([names[model_key(one.record)]] if names else []), one.record.protocol]
        cell = ", ".join(parts)
        if cell in cells and measurement_key(one.record) == measurement_key(cells[cell].record):
            cells[cell] = one
            continue
        if cell in cells:
            problem = f"a second record of {cell}, beside {cells[cell].path}"
            raise UserError(problem, where=one.path, fix="Keep one record of each task, model and protocol, or name the files.")
        cells[cell] = one
    return dict(sorted(cells.items()))


def as_data(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain data at full precision; null for what was not scored."""
    record = comparison.a.record
    data = {
        "task": record.task,
        "protocol": record.protocol,
        "a": {"model": record.model_name, "record": str(comparison.a.path)},
        "b": {"model": comparison.b.record.model_name, "record": str(comparison.b.path)},
        "n": len(comparison.a.counts),
        "groups": len(set(comparison.a.counts.groups)),
        "primary": record.primary,
        "unit": record.primary_metric.unit,
        "verdict": comparison.verdict,
        "gain": comparison.gain,
        "gain_ci95": comparison.gain_interval,
        "q": comparison.q,
        "spread": {side: None if one is None else one._asdict() for side, one in (("a", record.spread), ("b", comparison.b.record.spread))},
        "metrics": {name: _plain(one) for name, one in comparison.metrics.items()},
        "classes": [{"name": one.name, **_plain(one.difference), "q": one.q} for one in comparison.classes],
        "samples": [asdict(one) for one in comparison.samples],
    }
    plain: dict[str, Any] = null_for_nan(data)
    return plain


def suite_data(suite: Suite) -> dict[str, Any]:
    """Two folders compared, as plain data."""
    return {
        "cells": {cell: as_data(one) for cell, one in suite.comparisons.items()},
        "unlike": suite.unlike,
        "only_a": suite.only_a,
        "only_b": suite.only_b,
        "broken": [str(error) for error in suite.broken],
    }


def _plain(one: Difference) -> dict[str, Any]:
    return {"a": one.a, "b": one.b, "difference": one.value, "ci95": one.interval, "p": one.p, "detectable": one.detectable}
