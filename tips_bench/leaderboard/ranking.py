"""Records ranked against each other: boards of records that may be compared, and resamples of their scores.

A board holds records of one task, protocol, data and samples; what deviates stands on no board. All records of a board are resampled
with the same draws, so a difference or a rank keeps what the models share. Records are read one by one and their counts let go: what is
kept of each are 2 kB a class and 8 bytes a sample.

Axes: R resamples, G groups of samples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.leaderboard.breakdown import ByClass, BySample, Shared, by_class, by_sample, confusion
from tips_bench.results.comparison import compare
from tips_bench.results.counts import Scored, load_scored
from tips_bench.results.folders import read_records
from tips_bench.results.record import MetricValue, Record
from tips_bench.results.same_model import measurement_key, model_key, shared_names, told_apart
from tips_bench.results.statistics import group_sums

RESAMPLES = 500
PLAIN = 6.0  # standard errors of a difference beyond which no test is needed
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Entry:
    """A record that its counts bear out. id: hex digits of its content. samples: hash of its sample ids and groups.

    drawn_R: the primary metric of each resample. classes: per-class metric -> class -> 95 % interval. by_class, by_sample, confusion_CC:
    see `breakdown`; None where counts do not hold it. model: the model's name, all of them where one checkpoint has several. label: that,
    with what tells it from another of the same name.
    """

    path: Path
    record: Record
    id: str
    samples: str
    drawn_R: np.ndarray
    classes: dict[str, dict[str, Interval]]
    by_class: ByClass | None
    by_sample: BySample
    confusion_CC: np.ndarray | None
    model: str = ""
    label: str = ""

    @property
    def metric(self) -> MetricValue:
        """The primary one."""
        return self.record.primary_metric

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes two records of one model a row of a table."""
        return self.model, self.record.weights_sha256, str(self.record.seed), self.record.cost.dtype

    @property
    def machine(self) -> str:
        """What costs depend on besides the model: the device, with its threads where it is a CPU, and the precision."""
        return f"{self.record.cost.device}, {self.record.cost.dtype}"

    @property
    def encoder_ms(self) -> float:
        """Milliseconds inside the encoder for one image through the backbone; NaN where it was not measured."""
        cost = self.record.cost
        return 1000 * cost.encoder_s / cost.image_forwards if cost.image_forwards and cost.encoder_s else math.nan


@dataclass(frozen=True)
class Board:
    """Entries that may be compared, the best first. tied: ids that are not told from the best. sure: the best is told from all others."""

    task: str
    family: str
    protocol: str
    key: str
    entries: list[Entry]
    tied: frozenset[str] = frozenset()
    sure: bool = False

    @property
    def first(self) -> Record:
        """A record that stands for the board: its cards, data and metric are those of all."""
        return self.entries[0].record

    @property
    def metric(self) -> MetricValue:
        """The primary metric's unit and direction; its value is the best entry's."""
        return self.entries[0].metric

    @cached_property
    def by_label(self) -> dict[str, Entry]:
        return {entry.label: entry for entry in self.entries}


def read(folders: Path | Iterable[Path]) -> tuple[list[Entry], list[UserError]]:
    """The entries of all records in folders (or files), sorted by task, protocol and model; and what is wrong with what was left out.

    A record whose counts are missing, broken or give other numbers is left out. The same record found twice counts once, and so does one
    measurement that was made twice, by its newer record.
    Errors: as `read_records`; no record that its counts bear out.
    """
    known: Shared = {}
    found, broken = read_records(folders, lambda path: _entry(path, known))
    if not found:
        raise broken[0]
    entries: dict[str, Entry] = {}
    for entry in found:
        entries.setdefault(entry.id, entry)
    return _labeled(list(entries.values())), broken


def _entry(path: Path, known: Shared) -> Entry:
    scored = load_scored(path)
    record = scored.record
    ids, groups = scored.counts.ids, scored.counts.groups
    samples = digest(*ids, "", *groups)
    totals = _resampled(scored, int(samples[:8], 16))
    labels = record.dataset.classes
    classes = {}
    for name, per_class in scored.family.per_class.values():
        values_RC = np.asarray(per_class(totals))
        classes[name] = {label: sure for label, values_R in zip(labels, values_RC.T, strict=True) if (sure := _percentiles(values_R))}
    drawn_R = np.asarray(scored.family.summary(totals)[record.primary])
    return Entry(
        path,
        record,
        digest(record.model_dump_json())[:12],
        samples,
        drawn_R,
        classes,
        by_class(scored, totals),
        by_sample(scored, samples, known),
        confusion(scored),
    )


def _resampled(scored: Scored, seed: int) -> np.ndarray:
    """Summed counts of each resample. How often the groups are drawn depends on the seed and their number only."""
    counts_G = group_sums(scored.counts.counts_N, scored.counts.groups)
    number = len(counts_G)
    times_RG = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), RESAMPLES)
    return (times_RG.astype(np.float64) @ counts_G.reshape(number, -1).astype(np.float64)).reshape(RESAMPLES, *counts_G.shape[1:])


def _percentiles(values_R: np.ndarray) -> Interval | None:
    values_R = values_R[~np.isnan(values_R)]
    if not values_R.size:
        return None
    low, high = np.quantile(values_R, [0.025, 0.975]).tolist()
    return low, high


def _labeled(entries: list[Entry]) -> list[Entry]:
    """The entries with labels: weights, seed and precision are named where they tell two of one model apart, then a running number."""
    names = shared_names(entry.record for entry in entries)
    entries = _without_repeats([replace(entry, model=names[model_key(entry.record)]) for entry in entries])
    entries.sort(key=lambda entry: (*_key(entry), entry.identity, entry.record.created, entry.id))
    result = []
    for _, group in groupby(entries, key=lambda entry: (_key(entry), entry.identity)):
        for number, entry in enumerate(group, 1):
            # what is not comparable is named in full, and needs no room in the names of what is
            others = [e.identity for e in entries if _fair(e) or not _fair(entry)]
            result.append(replace(entry, label=told_apart(entry.identity, others, number)))
    return result


def _without_repeats(entries: list[Entry]) -> list[Entry]:
    """Of measurements that were made twice, with the same numbers on the same samples, the newer alone."""
    entries = sorted(entries, key=lambda entry: (entry.record.created, entry.id))
    return list({(measurement_key(entry.record), entry.samples): entry for entry in entries}.values())


def _fair(entry: Entry) -> bool:
    return entry.record.comparable and not entry.record.deviations


def _key(entry: Entry) -> tuple[str, ...]:
    """What must agree for two records to be compared."""
    record, data = entry.record, entry.record.dataset
    key = digest(
        record.family, record.primary, record.protocol_hash, data.fingerprint, data.train_fingerprint, *data.classes, entry.samples
    )
    return record.task, record.protocol, key


def boards(entries: Sequence[Entry]) -> list[Board]:
    """The boards of all comparable entries, by task and protocol; of several with the same two, that with the most entries first."""
    made = []
    ranked = sorted(filter(_fair, entries), key=_key)
    for key, group in groupby(ranked, key=_key):
        members = sorted(group, key=lambda entry: (_order(entry), entry.label))
        tied, sure = _told_apart(members)
        made.append(Board(key[0], members[0].record.family, key[1], key[2], members, tied, sure))
    return sorted(made, key=lambda board: (board.task, board.protocol, -len(board.entries), board.key))


def _order(entry: Entry) -> float:
    return entry.metric.spec.order(entry.metric.value)


def _told_apart(members: list[Entry]) -> tuple[frozenset[str], bool]:
    """(ids not told from the best, whether the best is told from all others), members sorted.

    The best must beat each other one, so no correction for their number is due. Where the paired resamples leave less than `PLAIN`
    standard errors, the verdict is that of the paired test.
    """
    best, rest = members[0], members[1:]
    if not rest or math.isnan(best.metric.value):
        return frozenset(), False
    tied, close = set(), []
    for entry in rest:
        lead_R = best.metric.spec.gain(best.drawn_R, entry.drawn_R)
        sure = _percentiles(lead_R)
        if sure is None:
            continue  # not scored
        if sure[0] <= 0:
            tied.add(entry.id)
        elif abs(entry.metric.value - best.metric.value) < PLAIN * np.nanstd(lead_R):
            close.append(entry)
    if not tied:
        tied = {entry.id for entry in close if compare(entry.path, best.path, detail=False).verdict != "B is better"}
    return frozenset(tied), not tied
