"""Records with the counts they were made from: read, checked against each other, and compared for what would make a comparison void."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.metrics.samples import SampleCounts
from tips_bench.results.families import family_of
from tips_bench.results.record import Record, load_record
from tips_bench.results.untrusted_input import check_counts

NAMED = 3  # ids that a message names before it says how many more there are
PROSE = {"name", "title", "source", "notes", "version", "families"}  # of a protocol card: they change no number
RECORD_SCHEMAS = "tips-bench/record/"


@dataclass(frozen=True)
class Scored:
    """A record with the counts that it was made from."""

    path: Path
    record: Record
    counts: SampleCounts

    @property
    def family(self) -> type[SampleCounts]:
        return family_of(self.record, where=self.path)


def load_scored(path: str | Path) -> Scored:
    """A record and its counts, which must give the record's numbers.

    Errors: as `load_record`, `check_counts` and `SampleCounts.read`; a number that the counts do not give.
    """
    path = Path(path)
    record = load_record(path)
    family = family_of(record, where=path)
    check_counts(path.parent / record.per_sample)
    counts = family.of_record(record).read(path.parent / record.per_sample)
    found = family.summary(counts.total())
    for name, metric in record.metrics.items():
        value = float(found[name]) if name in found else math.nan
        same = math.isclose(value, metric.value, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(value) and math.isnan(metric.value))
        if not same or metric.n != len(counts):
            said = f"{name} = {metric.value} of {metric.n} samples in the record, {value} of {len(counts)} from its counts"
            raise UserError(said, where=path, fix="Run the task again.")
    return Scored(path, record, counts)


def load_all(path: Path) -> tuple[list[Scored], list[UserError]]:
    """The records of a folder and those below it, sorted by path, and what is wrong with the broken ones; or the one record of a file.

    JSON that does not claim to be a record is passed over. Errors: no such path, no record there, a file that is no record.
    """
    if not path.is_dir():
        return [load_scored(path)], []
    found: list[Scored] = []
    broken: list[UserError] = []
    for file in sorted(path.rglob("*.json")):
        if any(part.startswith(".") for part in file.relative_to(path).parts) or _is_other_json(file):
            continue  # a run that is not done works in a hidden folder
        try:
            found.append(load_scored(file))
        except UserError as error:
            broken.append(error)
    if not found and not broken:
        raise UserError("no records there", where=path, fix="Write some with `tips-bench run --out FOLDER`.")
    return found, broken


def _is_other_json(file: Path) -> bool:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # load_record says what is wrong with it
    return not (isinstance(data, dict) and str(data.get("schema")).startswith(RECORD_SCHEMAS))


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


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def card_differences(one: Any, two: Any, name_one: str, name_two: str) -> list[str]:
    """The values in which two cards differ: "probe.iterations: 40000 in A, 10 in B"; names, titles and notes are no values."""
    first, second = dict(_leaves(one)), dict(_leaves(two))
    return [
        f"{key}: {_shown(first, key)} in {name_one}, {_shown(second, key)} in {name_two}"
        for key in sorted({*first, *second})
        if key not in PROSE and first.get(key) != second.get(key)
    ]


def _leaves(card: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(card, dict):
        for key, value in card.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, card


def _shown(leaves: dict[str, Any], key: str) -> str:
    return json.dumps(leaves[key], ensure_ascii=False)[:60] if key in leaves else "nothing"
