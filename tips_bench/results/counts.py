"""Records with the counts they were made from: read, checked against each other, and compared for what would make a comparison void."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.plain_data import leaves
from tips_bench.results.per_sample import read_counts
from tips_bench.results.record import Record, load_record

NAMED = 3  # ids that a message names before it says how many more there are
PROSE = {"name", "title", "source", "notes", "version", "families"}  # of a protocol card: they change no number


@dataclass(frozen=True)
class Scored:
    """A record with the counts that it was made from. beside: those of the metrics beside its family's own, by the metric's name."""

    record: Record
    counts: SampleCounts
    beside: dict[str, SampleCounts]

    @property
    def path(self) -> Path:
        """The record's file."""
        return self.record.file

    @property
    def family(self) -> type[SampleCounts]:
        """The class of the counts of the record's task family."""
        return type(self.counts)


def load_scored(source: str | Path | Record) -> Scored:
    """A record, or the one in a file, and its counts, which must give the record's numbers.

    Errors: as `load_record` and `read_counts`; a number that the counts do not give.
    """
    record = source if isinstance(source, Record) else load_record(source)
    counts = read_counts(record)
    found = {name: (float(value), len(one)) for one in counts.values() for name, value in one.summary(one.total()).items()}
    for name, metric in record.metrics.items():
        value, number = found.get(name, (math.nan, metric.n))
        same = math.isclose(value, metric.value, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(value) and math.isnan(metric.value))
        if not same or metric.n != number:
            said = f"{name} = {metric.value} of {metric.n} samples in the record, {value} of {number} from its counts"
            raise UserError(said, where=record.path, fix="Run the task again.")
    return Scored(record, counts.pop(""), counts)


def mismatches(a: Scored, b: Scored) -> list[str]:
    """Why two records cannot be compared pair by pair, a sentence each; empty where they can."""
    one, two = a.record, b.record
    found = [
        f"{what}: {first} in A, {second} in B"
        for what, first, second in (
            ("task", one.task, two.task),
            ("family", one.family, two.family),
            ("primary metric", one.primary, two.primary),
            ("protocol", one.protocol, two.protocol),
            ("scored data", _data(one, "test"), _data(two, "test")),
            ("data the probe was fitted on", _data(one, "train"), _data(two, "train")),
            *_contents(one, two),
        )
        if first != second
    ]
    if one.protocol_hash != two.protocol_hash:
        changed = card_differences(one.cards.get("protocol"), two.cards.get("protocol"), "A", "B")
        found.append(f"values of the protocol: {'; '.join(changed) or 'the hashes differ'}")
    if one.dataset.classes != two.dataset.classes:
        found.append(f"classes: {len(one.dataset.classes)} in A, {len(two.dataset.classes)} in B, or in another order")
    if a.counts.ids != b.counts.ids:
        only = [set(a.counts.ids) - set(b.counts.ids), set(b.counts.ids) - set(a.counts.ids)]
        found += [f"samples only in {name}: {_some(sorted(ids))}" for name, ids in zip("AB", only, strict=True) if ids]
    elif a.counts.groups != b.counts.groups:
        found.append("the grouping of the samples")
    return found


def _data(record: Record, role: str) -> str:
    data = record.dataset
    split, number, fingerprint = (
        (data.split, data.n, data.fingerprint) if role == "test" else (data.train_split, data.train_n, data.train_fingerprint)
    )
    return f"{split} of {number} ({fingerprint[:12]})"


def _contents(one: Record, two: Record) -> list[tuple[str, str, str]]:
    """What the files hold, where both records say it: (what, in A, in B)."""
    pairs = (
        ("contents of the scored files", one.dataset.content_fingerprint, two.dataset.content_fingerprint),
        ("contents of the files the probe was fitted on", one.dataset.train_content_fingerprint, two.dataset.train_content_fingerprint),
    )
    return [(what, a[:12], b[:12]) for what, a, b in pairs if a is not None and b is not None]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def card_differences(one: Any, two: Any, name_one: str, name_two: str) -> list[str]:
    """The values in which two cards differ: "probe.iterations: 40000 in A, 10 in B"; names, titles and notes are no values."""
    first, second = _values(one), _values(two)
    return [
        f"{key}: {_shown(first, key)} in {name_one}, {_shown(second, key)} in {name_two}"
        for key in sorted({*first, *second})
        if key not in PROSE and first.get(key) != second.get(key)
    ]


def _values(card: Any) -> dict[str, Any]:
    """The values of a card by their dotted keys; an empty mapping is none."""
    return {key: value for key, value in leaves(card) if key and value != {}}


def _shown(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False)[:60] if key in values else "nothing"
