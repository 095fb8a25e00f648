"""How a score changes with what is done to the images: records of `TASK+fog-3` and the like beside those of the same task without.

Every difference is paired: the same samples, the reference's counts beside the changed ones' (results/statistics.py). What is kept is
the score over the reference's, or the reference's over the score where less is better: 1 = nothing is lost. There is no published
protocol for dense tasks, so no number is divided by another model's, as ImageNet-C's mCE is by AlexNet's.

Axes: N samples, 2 reference and changed, K settings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tips_bench.errors import UserError
from tips_bench.metrics.spec import MetricSpec
from tips_bench.registry import CORRUPTIONS
from tips_bench.results.counts import Scored, mismatches
from tips_bench.results.same_model import model_key, shared_names
from tips_bench.results.statistics import Difference, adjusted, differences
from tips_bench.variants import changed_fingerprint

# What of a task's changes belongs to an axis, and in what its records may differ from their reference's.
AXES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "corruption": (("kind", "strength"), {"task", "scored data", "contents of the scored files"}),
    "rotation": (("rotate",), {"task", "scored data", "contents of the scored files"}),
    "input size": (("size",), {"task", "values of the protocol"}),
    "training images": (("few", "few_seed"), {"task", "data the probe was fitted on", "contents of the files the probe was fitted on"}),
}
REFITTED = {"data the probe was fitted on", "contents of the files the probe was fitted on"}
IN_PLACE, MOVING = "corruptions that leave pixels in place", "corruptions that move pixels"


@dataclass(frozen=True)
class Point:
    """x: strength, degrees, pixels or 1/N. q: p of the difference to the reference, adjusted for all points of all curves.

    kept: the share of the score that is left.
    """

    x: float
    task: str
    score: float
    interval: tuple[float, float] | None
    difference: Difference
    q: float
    kept: float


@dataclass(frozen=True)
class Curve:
    """One kind of change of one task, model and protocol. reference: the task without it, and its score at `reference_x`.

    change: an axis of AXES; of a corruption, its kind. mean: over the points, against the reference. kept: the mean of theirs.
    """

    task: str
    model: str
    protocol: str
    change: str
    axis: str
    metric: str
    spec: MetricSpec
    reference_x: float
    reference: float
    reference_interval: tuple[float, float] | None
    points: list[Point]
    mean: Difference
    kept: float


@dataclass(frozen=True)
class Overall:
    """The mean of all corruptions of a sort. kinds: which; strengths: those that each of them has."""

    task: str
    model: str
    protocol: str
    sort: str
    kinds: list[str]
    strengths: list[int]
    mean: Difference
    kept: float


@dataclass(frozen=True)
class Robustness:
    """unpaired: why a changed record has no reference, or none that it can be compared with, a sentence each."""

    curves: list[Curve]
    overall: list[Overall]
    unpaired: list[str]


@dataclass(frozen=True)
class _Pair:
    reference: Scored
    changed: Scored
    axis: str
    x: float


def robustness(records: Sequence[Scored]) -> Robustness:
    """Curves of all records whose task is changed, each with the task without that change; means over corruptions.

    Errors: not one record of a changed task.
    """
    newest = {_key(one, _changes(one)): one for one in sorted(records, key=lambda one: (one.record.created, str(one.path)))}
    pairs: dict[tuple[str, ...], list[_Pair]] = {}
    unpaired = []
    changed = [one for one in newest.values() if _changes(one)]
    if not changed:
        fix = "Make some: tips-bench run --task ade20k,ade20k+fog-1..5 --model MODEL"
        raise UserError("no record there is of a task with changed images, sizes or training images", fix=fix)
    for one in changed:
        for axis, (keys, _) in AXES.items():
            changes = _changes(one)
            if keys[0] not in changes:
                continue
            reference = newest.get(_key(one, _without(changes, keys)))
            wrong = ["there is no record of the task without it"] if reference is None else _wrong(reference, one, axis)
            if reference is None or wrong:
                unpaired.append(f"{one.record.task}, {one.record.model_name}, {one.record.protocol}: {axis}: {'; '.join(wrong)}")
                continue
            pair = _Pair(reference, one, axis, _x(axis, changes, one))
            pairs.setdefault((*_key(reference, _changes(reference)), _change(pair), str(changes.get("refit", ""))), []).append(pair)
    names = shared_names(one.record for one in records)
    curves = [_curve(sorted(found, key=lambda pair: pair.x), names) for _, found in sorted(pairs.items())]
    return Robustness(_with_q(curves), _overall(pairs, names), unpaired)


def as_data(found: Robustness) -> dict[str, Any]:
    """Everything, as plain data."""
    data = asdict(found)
    return {"schema": "tips-bench/robustness/1", **data}


def _changes(one: Scored) -> dict[str, Any]:
    """What the name of the record's task changes, without what is as usual."""
    card = one.record.cards.get("task") or {}
    changes = (card.get("data") or {}).get("changes") or {}
    return {key: value for key, value in changes.items() if value not in (None, False, 0) and key != "base"}


def _without(changes: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The changes less those of an axis; a refit goes with the last change of images."""
    left = {key: value for key, value in changes.items() if key not in keys}
    return left if left.keys() & {"kind", "rotate"} else {key: value for key, value in left.items() if key != "refit"}


def _key(one: Scored, changes: dict[str, Any]) -> tuple[str, ...]:
    """Equal in two records of one model, protocol and task with these changes."""
    record = one.record
    base = (((record.cards.get("task") or {}).get("data") or {}).get("changes") or {}).get("base", record.task)
    settings = json.dumps([record.changed_values, record.limit, record.seed, record.cost.precision], sort_keys=True)
    return base, record.protocol, model_key(record), settings, json.dumps(changes, sort_keys=True)


def _wrong(reference: Scored, changed: Scored, axis: str) -> list[str]:
    """Why the two cannot be compared pair by pair, apart from what the axis changes."""
    changes, data = _changes(changed), reference.record.dataset
    allowed = AXES[axis][1] | (REFITTED if changes.get("refit") else set())
    wrong = [sentence for sentence in mismatches(reference, changed) if sentence.partition(":")[0] not in allowed]
    parts = changes.get("kind"), changes.get("strength"), changes.get("rotate")
    whole = reference.record.limit is None and not _changes(reference).keys() & {"kind", "rotate"}
    if whole and any(parts) and changed.record.dataset.fingerprint != changed_fingerprint(data.fingerprint, *parts):
        wrong.append("its images are not those of the task without it")
    return wrong


def _x(axis: str, changes: dict[str, Any], one: Scored) -> float:
    if axis == "training images":
        return 1 / float(changes["few"])
    return float({"corruption": changes.get("strength"), "rotation": changes.get("rotate"), "input size": _side(one)}[axis] or 0)


def _side(one: Scored) -> float:
    """The input size of the record's protocol in pixels; NaN where it keeps the images'."""
    image = (one.record.cards.get("protocol") or {}).get("image") or {}
    return float(image.get("crop") or image.get("short_side") or math.nan)


def _change(pair: _Pair) -> str:
    return str(_changes(pair.changed)["kind"]) if pair.axis == "corruption" else pair.axis


def _difference(reference: Scored, changed: Sequence[Scored]) -> Difference:
    """The mean of the changed records' primary metric less the reference's, on the same samples."""
    counts_NK = np.stack([one.counts.counts_N for one in changed], axis=1)
    counts_N2K = np.stack([np.broadcast_to(reference.counts.counts_N[:, None], counts_NK.shape), counts_NK], axis=1)
    name = reference.record.primary
    return differences(counts_N2K, reference.counts.groups, lambda x: {name: np.asarray(reference.family.summary(x)[name]).mean(-1)})[name]


def _kept(spec: MetricSpec, reference: float, changed: float) -> float:
    above, below = (changed, reference) if spec.higher_is_better else (reference, changed)
    return above / below if below else math.nan


def _curve(pairs: list[_Pair], names: dict[str, str]) -> Curve:
    reference, axis = pairs[0].reference, pairs[0].axis
    record, metric = reference.record, reference.record.primary_metric
    points = []
    for pair in pairs:
        own, found = pair.changed.record.primary_metric, _difference(reference, [pair.changed])
        kept = _kept(metric.spec, metric.value, own.value)
        points.append(Point(pair.x, pair.changed.record.task, own.value, own.ci95, found, found.p, kept))
    return Curve(
        task=record.task,
        model=names[model_key(record)],
        protocol=record.protocol,
        change=_change(pairs[0]) + (", refitted" if _changes(pairs[0].changed).get("refit") else ""),
        axis=axis,
        metric=record.primary,
        spec=metric.spec,
        reference_x={"input size": _side(reference), "training images": 1.0}.get(axis, 0.0),
        reference=metric.value,
        reference_interval=metric.ci95,
        points=points,
        mean=_difference(reference, [pair.changed for pair in pairs]),
        kept=float(np.mean([point.kept for point in points])),
    )


def _with_q(curves: list[Curve]) -> list[Curve]:
    q = iter(adjusted([point.difference.p for curve in curves for point in curve.points]))
    return [replace(curve, points=[replace(point, q=next(q)) for point in curve.points]) for curve in curves]


def _overall(pairs: dict[tuple[str, ...], list[_Pair]], names: dict[str, str]) -> list[Overall]:
    """Means over the corruptions of each sort that one reference has, at the strengths that all of them have."""
    groups: dict[tuple[str, ...], dict[str, list[_Pair]]] = {}
    for key, found in pairs.items():
        if found[0].axis == "corruption":
            kind = _change(found[0])
            moves = kind in CORRUPTIONS.names() and CORRUPTIONS.get(kind).moves
            groups.setdefault((*key[:-2], key[-1], MOVING if moves else IN_PLACE), {})[kind] = found
    return [_mean_of(key[-1], kinds, names) for key, kinds in sorted(groups.items()) if len(kinds) > 1 and _strengths(kinds)]


def _strengths(kinds: dict[str, list[_Pair]]) -> list[int]:
    return sorted(set.intersection(*({int(pair.x) for pair in found} for found in kinds.values())))


def _mean_of(sort: str, kinds: dict[str, list[_Pair]], names: dict[str, str]) -> Overall:
    strengths = _strengths(kinds)
    used = [pair for found in kinds.values() for pair in found if int(pair.x) in strengths]
    reference = used[0].reference
    record, metric = reference.record, reference.record.primary_metric
    kept = [_kept(metric.spec, metric.value, pair.changed.record.primary_metric.value) for pair in used]
    mean, model = _difference(reference, [pair.changed for pair in used]), names[model_key(record)]
    return Overall(record.task, model, record.protocol, sort, sorted(kinds), strengths, mean, float(np.mean(kept)))
