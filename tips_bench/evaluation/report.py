"""From a finished evaluation to its record."""

from __future__ import annotations

import math
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tips_bench.adapters.base import Scores
from tips_bench.catalog import PACKAGE
from tips_bench.data.split import Split, Splits
from tips_bench.evaluation.spec import Spec
from tips_bench.metrics.samples import SampleCounts
from tips_bench.probes.base import Choice, Fit
from tips_bench.results.cost import Cost
from tips_bench.results.provenance import git_state, versions
from tips_bench.results.record import DatasetIdentity, Deviation, MetricValue, Record, Selection
from tips_bench.results.statistics import intervals


def build_record(
    spec: Spec,
    splits: Splits,
    fit: Fit | None,
    scores: Scores,
    cost: Cost,
    weights_sha256: str,
    seed: int,
    per_sample: str,
    features_id: str,
) -> Record:
    """The record of one spec, still without pictures.

    per_sample: name of the file of counts beside it. features_id: what the cache files the features under.
    """
    commit, dirty = git_state(PACKAGE)
    train, test = splits.train, splits.test
    remarks = dict.fromkeys((*(train.remarks if train else ()), *test.remarks))
    deviations = [
        *spec.deviations,
        *(Deviation(card="probe", text=warning) for warning in (fit.warnings if fit else [])),
        *(Deviation(card="data", text=remark) for remark in remarks),
    ]
    every = (scores.counts, *scores.beside.values())
    return Record(
        task=spec.task.name,
        family=spec.task.family,
        protocol=spec.protocol.name,
        protocol_hash=spec.protocol_hash,
        extension=spec.protocol.extends_to(spec.task.name),
        model=spec.model.name,
        weights=spec.weights_name,
        weights_sha256=weights_sha256,
        metrics={name: value for counts in every for name, value in _metrics(counts).items()},
        per_class=_per_class(scores.counts, test.reader.classes),
        beside=list(scores.beside),
        primary=spec.task.primary,
        comparable=not deviations,
        deviations=deviations,
        probe={**(fit.report if fit else {}), **scores.notes},
        selection=_selection(fit.choice if fit else None, spec.task.primary),
        dataset=_identity(splits),
        features_id=features_id,
        cost=cost,
        versions=versions(),
        git_commit=commit,
        git_dirty=dirty,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]).encode("utf-8", "backslashreplace").decode(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        per_sample=per_sample,
        seed=seed,
        cards=spec.cards(),
    )


def to_draw(test: Split[Any], counts: SampleCounts, metric: str, number: int) -> Split[Any]:
    """The samples of which pictures are drawn: a quarter each of the hardest and the easiest, the rest by a hash of their ids.

    Hard and easy is what `metric` gives for the sample alone. Those by a hash are the same for all models, and come first.
    """
    spec, values_N = counts.specs[metric], counts.summary(counts.counts_N)[metric]
    place = {id: place for place, id in enumerate(counts.ids)}
    scored = [index for index in test.indices if not math.isnan(values_N[place[test.reader.ids[index]]])]
    order = sorted(scored, key=lambda index: spec.order(values_N[place[test.reader.ids[index]]]))
    easiest, hardest = number // 4, (number + 2) // 4
    chosen = [*test.pick(number - easiest - hardest), *order[::-1][:hardest], *order[:easiest]]
    return test.part(list(dict.fromkeys([*chosen, *test.pick(number)]))[:number])


def _metrics(counts: SampleCounts) -> dict[str, MetricValue]:
    values = counts.compute()
    sure = intervals(counts.counts_N, counts.groups, counts.summary)
    return {
        name: MetricValue(value=float(values[name]), unit=spec.unit, higher_is_better=spec.higher_is_better, ci95=sure[name], n=len(counts))
        for name, spec in counts.specs.items()
    }


def _per_class(counts: SampleCounts, classes: list[str]) -> dict[str, dict[str, float | None]]:
    values: dict[str, Any] = counts.compute()
    return {
        name: {label: None if math.isnan(value) else float(value) for label, value in zip(classes, values[name], strict=True)}
        for name in counts.per_class_specs
    }


def _selection(choice: Choice | None, metric: str) -> Selection | None:
    if choice is None:
        return None
    return Selection(metric=choice.metric or metric, grid=choice.grid, scores=choice.scores, choice=choice.index, held_out=choice.held_out)


def _identity(splits: Splits) -> DatasetIdentity:
    train, test = splits.train, splits.test
    return DatasetIdentity(
        name=test.reader.name,
        split=test.name,
        n=len(test.indices),
        fingerprint=test.fingerprint,
        train_split=train.name if train else "",
        train_n=len(train.indices) if train else 0,
        train_fingerprint=train.fingerprint if train else "",
        content_fingerprint=test.content_fingerprint,
        train_content_fingerprint=train.content_fingerprint if train else None,
        classes=list(test.reader.classes),
    )
