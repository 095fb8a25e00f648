"""A folder of records that somebody sent: is every number what its counts give, on the data and by the protocol that it names.

Nothing in it is trusted: sizes and links are looked at before a file is read, metrics, intervals and class scores are computed again
from the counts of each sample, and cards are held against ours. All faults are listed, not the first.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.leaderboard.ranking import Entry
from tips_bench.metrics.samples import SampleCounts
from tips_bench.results.counts import card_differences
from tips_bench.results.kept_head import head_file
from tips_bench.results.per_sample import read_counts
from tips_bench.results.predictions import predictions_folder
from tips_bench.results.protocol_hash import protocol_hash
from tips_bench.results.record import Record, load_record, record_path
from tips_bench.results.statistics import intervals
from tips_bench.results.untrusted_input import MAX_JSON, check_file, check_picture, hostile, texts

MAX_FILES = 20_000
WELCOME = {"README.md", "LICENSE"}  # at the top of a submission, beside the records
PASSED_OVER = {".git", ".matrix"}  # there, too
FORMS = (".ply", ".webp")  # that stand beside the PNG of a picture
DTYPES = ("fp32", "bf16")
SLACK = 0.05  # of an interval's width: between versions of the libraries that draw it
PROSE = {"license", "citation", "homepage", "how_to_get", "data.download", "protocols", "published"}
# (kind, name) -> the card of that name here as plain data, None where there is none
CardOf = Callable[[str, str, str], Mapping[str, Any] | None]  # (kind, name, task): a protocol as it is for the task


@dataclass(frozen=True)
class Fault:
    """where: the file within the submission. problem: why it is refused."""

    where: str
    problem: str


@dataclass
class Review:
    """records: the number of files that are records. notes: what is no fault, but keeps a record off the boards."""

    records: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)


def validate(folder: Path, card_of: CardOf, accepted: Sequence[Entry] = ()) -> Review:
    """Every fault of a submission. accepted: records that are on the leaderboard; the data must be theirs.

    Errors: no such folder.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, fix="Name the folder that `tips-bench run --out` wrote.")
    review = Review()
    files = _walk(folder, review)
    used: set[str] = set()
    records: list[tuple[str, Record]] = []
    for name in files:
        if not name.endswith(".json"):
            continue
        try:
            check_file(folder / name, MAX_JSON)
            record = load_record(folder / name)
        except UserError as error:
            review.faults.append(Fault(name, error.problem))
            used.add(name)
            continue
        review.records += 1
        records.append((name, record))
        used |= {name, *_beside(name, record)}
        problems = [*_names(record), *_place(name, record), *_files(folder, name, record), *_cards(record, card_of)]
        problems += _numbers(record, accepted)
        review.faults += [Fault(name, problem) for problem in problems]
        if record.deviations:
            review.notes.append(Fault(name, f"not comparable, so on no board: {'; '.join(map(str, record.deviations))}"))
    used |= WELCOME
    review.faults += [Fault(name, "belongs to no record") for name in files if name not in used and not _is_prediction(name, used)]
    review.faults += _together(records, accepted)
    if not review.records and not review.faults:
        review.faults.append(Fault(".", "holds no records"))
    return review


def _beside(name: str, record: Record) -> set[str]:
    """What a run writes beside a record: counts, pictures, and what nothing here reads: a log, a head, other forms of pictures."""
    place = Path(name)
    own = {(place.parent / other).as_posix() for other in (record.per_sample, *record.pictures)}
    own |= {Path(other).with_suffix(suffix).as_posix() for other in own if other.endswith(".png") for suffix in FORMS}
    return own | {place.with_suffix(".log").as_posix(), head_file(place).as_posix()}


def _is_prediction(name: str, used: Collection[str]) -> bool:
    """Whether a file is what `run --predictions` kept of a record that is here; nothing here reads it."""
    folder = Path(name).parent
    record = folder.with_suffix(".json") if folder.name else folder
    return record.as_posix() in used and folder == predictions_folder(record)


def _walk(folder: Path, review: Review) -> list[str]:
    """The regular files, as paths within the folder, sorted; links, devices and odd names are faults.

    A checkout's .git is passed over, and what `run --on` keeps of its jobs.
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder, followlinks=False):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not (name in PASSED_OVER and here == folder))
        for name in sorted(folders + names):
            path = here / name
            relative = path.relative_to(folder).as_posix()
            why = hostile(name, name=True)
            if path.is_symlink():
                review.faults.append(Fault(ascii(relative), "a symbolic link: put the file itself there"))
            elif why:
                review.faults.append(Fault(ascii(relative), f"the file's name {why}"))
            elif name in names and not path.is_file():
                review.faults.append(Fault(relative, "not a regular file"))
            elif name in names:
                found.append(relative)
        folders[:] = [name for name in folders if not (here / name).is_symlink()]
        if len(found) > MAX_FILES:
            review.faults.append(Fault(".", f"over {MAX_FILES:,} files"))
            return []
    return sorted(found)


def _names(record: Record) -> Iterator[str]:
    """Text that hides something or passes for markup."""
    data = record.dataset
    named = {
        "task": record.task,
        "protocol": record.protocol,
        "model": record.model_name,
        "dataset.name": data.name,
        "dataset.split": data.split,
    }
    named |= {f"dataset.classes.{index}": name for index, name in enumerate(data.classes)}
    named |= {f"metrics, {name!r}": name for name in record.metrics}
    for place, text in named.items():
        why = hostile(text, name=True)
        if why:
            yield f"{place} {why}"
    for place, text in texts(record.model_dump(mode="json")):
        why = hostile(text)
        if why and place not in named:
            yield f"{ascii(place)[1:-1]} {why}"
    if len(set(data.classes)) < len(data.classes):
        yield "dataset.classes names a class twice"


def _place(name: str, record: Record) -> Iterator[str]:
    """Whether the file is where `tips-bench run` puts it, so that two records never claim one cell unseen."""
    expected = record_path(Path(), record.task, record.model_name, record.protocol, "0" * 8)
    pattern = re.escape(expected.as_posix().removesuffix("00000000.json")) + r"[0-9a-f]{8}\.json"
    if not re.fullmatch(pattern, name):
        yield f"lies in another place than the record says: {expected.parent.as_posix()}/{expected.name.replace('0' * 8, '*')}"
    if record.per_sample != Path(name).name.removesuffix(".json") + ".samples.npz":
        yield f"per_sample = {record.per_sample!r} is not the file of this record's name"


def _files(folder: Path, name: str, record: Record) -> Iterator[str]:
    for other in record.pictures:
        path = folder / Path(name).parent / other
        try:
            _refuse_links(folder, path)
            check_picture(path)
        except UserError as error:
            yield f"picture {other!r}: {error.problem}"


def _refuse_links(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError("lies outside the submission", where=path)


def _reads_preprocessing(record: Record) -> bool:
    """Whether the record's protocol takes an image as the model's card says."""
    image = (record.cards.get("protocol") or {}).get("image") or {}
    return bool(image.get("from_encoder"))


def _cards(record: Record, card_of: CardOf) -> Iterator[str]:
    """The cards in the record against ours; what differs must be declared as a deviation."""
    if record.comparable == bool(record.deviations):
        yield f"comparable = {json.dumps(record.comparable)} with {len(record.deviations)} deviations"
    declared = record.changed_values
    for kind, name in (("task", record.task), ("protocol", record.protocol), ("model", record.model)):
        used, ours = record.cards.get(kind), card_of(kind, name, record.task)
        if not isinstance(used, dict):
            yield f"cards.{kind} is missing"
            continue
        if used.get("name") != name:
            yield f"cards.{kind}.name = {used.get('name')!r}, but the record names {name!r}"
        if kind == "protocol" and protocol_hash(used) != record.protocol_hash:
            yield "protocol_hash is not the hash of the protocol in the record"
        if ours is None:
            if kind != "model":
                yield f"there is no {kind} {name!r} here"
            continue
        if kind == "model" and used.get("source") != ours["source"] and "model.source" not in declared:
            yield f"model {name!r} is not ours: source = {used.get('source')!r}, our card's is {ours['source']!r}"
        if kind == "model" and "preprocessing" not in used and not _reads_preprocessing(record):
            ours = {key: value for key, value in ours.items() if key != "preprocessing"}  # a record of before cards had it
        changed = [text for text in card_differences(used, dict(ours), "the record", "our card") if not _declared(kind, text, declared)]
        yield from (f"{kind} {name!r} is not ours, and does not say so: {text}" for text in changed)
        if kind == "protocol" and protocol_hash(ours) != record.protocol_hash and not changed and not declared:
            yield f"protocol_hash = {record.protocol_hash[:12]}: another version of {name!r}"
    yield from _against_cards(record, card_of)


def _declared(kind: str, difference: str, declared: Mapping[str, Any]) -> bool:
    key = difference.partition(":")[0]
    if any(key == prose or key.startswith(f"{prose}.") for prose in PROSE):
        return True
    return any(name == f"{kind}.{key}" or name.startswith(f"{kind}.{key}.") for name in declared)


def _against_cards(record: Record, card_of: CardOf) -> Iterator[str]:
    """What our cards say of the record's other fields."""
    task = card_of("task", record.task, record.task)
    declared = record.changed_values
    if task is not None:
        for key, value in (("family", record.family), ("primary", record.primary)):
            if task[key] != value and f"task.{key}" not in declared:
                yield f"{key} = {value!r}, the task's is {task[key]!r}"
        if record.protocol not in task["protocols"]:
            yield f"the task does not allow the protocol {record.protocol!r}"
        if not any(key.startswith("task.data") for key in declared):
            yield from _splits(record, task["data"]["splits"])
        expected, few = task["data"]["expected"], (task["data"].get("changes") or {}).get("few")
        for split, number in ((record.dataset.split, record.dataset.n), (record.dataset.train_split, record.dataset.train_n)):
            stated = expected.get(split, number)
            if few and split in expected and split == record.dataset.train_split and isinstance(stated, int):
                stated = max(1, stated // few)  # as the name of the task says
            if record.limit is None and stated != number:
                yield f"{number} samples of {split!r}, where the data set has {stated}"
    model = card_of("model", record.model, record.task) if record.weights is None else None
    hash = ((model or {}).get("weights") or {}).get("sha256")
    if hash is not None and hash != record.weights_sha256:
        yield f"weights_sha256 = {record.weights_sha256[:12]}, the card's is {hash[:12]}"


def _splits(record: Record, splits: Mapping[str, str]) -> Iterator[str]:
    """The record's splits against the task's; where nothing was fitted there is no training split."""
    said = {"test": record.dataset.split, "train": record.dataset.train_split or splits.get("train")}
    for role, split in said.items():
        if split != splits.get(role):
            yield f"dataset: {split!r} is the {role} split of the record, {splits.get(role)!r} that of the task"


def _numbers(record: Record, accepted: Sequence[Entry]) -> list[str]:
    """Everything that the counts give, against what the record says."""
    try:
        every = read_counts(record)
    except UserError as error:
        return [f"{record.per_sample}: {error.problem}"]
    own = every[""]
    if not all(map(len, every.values())):
        return [f"{record.per_sample}: holds no samples"]
    problems = [problem for counts in every.values() for problem in _metrics(record, counts)]
    computed = {name for counts in every.values() for name in counts.specs}
    problems += [f"metrics.{name}: a {record.family} record has no such metric" for name in record.metrics if name not in computed]
    total = own.total()
    for name, per_class in own.per_class.values():
        values = dict(zip(record.dataset.classes, map(float, per_class(total)), strict=True))
        said = record.per_class.get(name, {})
        wrong = [label for label in {**values, **said} if label not in values or not _same(said.get(label), values[label])]
        if said and wrong:
            problems.append(f"per_class.{name} is not what the counts give for {', '.join(map(repr, wrong[:3]))}, {len(wrong)} in all")
    if unknown := sorted(set(record.per_class) - {name for name, _ in own.per_class.values()}):
        problems.append(f"per_class.{unknown[0]}: a {record.family} record has no such score of a class")
    if strange := sorted(set(record.pictured) - set(own.ids)):
        problems.append(f"pictured: {strange[0]!a} is no sample of the counts")
    if record.dataset.n != len(own):
        problems.append(f"dataset.n = {record.dataset.n}, the counts are of {len(own)} samples")
    samples = digest(*own.ids, "", *own.groups)
    others = [one for one in accepted if one.record.task == record.task and one.record.dataset.fingerprint == record.dataset.fingerprint]
    if others and record.limit is None and samples not in {one.samples for one in others}:
        problems.append("its samples are not those of the accepted records of the same data")
    cost = record.cost
    if min(cost.wall_s, cost.encoder_s, cost.image_forwards, cost.images_per_s, cost.peak_memory_mb) < 0:
        problems.append("a cost below zero")
    if cost.dtype not in DTYPES:
        problems.append(f"cost.dtype = {cost.dtype!r}, an encoder runs in {' or '.join(DTYPES)}")
    return problems


def _metrics(record: Record, counts: SampleCounts) -> Iterator[str]:
    """What the record says of the metrics that these counts give, where it is something else."""
    found = {name: float(value) for name, value in counts.summary(counts.total()).items()}
    sure = intervals(counts.counts_N, counts.groups, counts.summary)
    for name, spec in counts.specs.items():
        metric = record.metrics.get(name)
        if metric is None:
            yield f"metrics.{name} is missing"
            continue
        if not _same(metric.value, found[name]):
            yield f"metrics.{name}.value = {metric.value}, the counts give {found[name]}"
        if metric.spec != spec:
            yield f"metrics.{name} is in {spec.unit}, {'higher' if spec.higher_is_better else 'lower'} is better"
        if metric.n != len(counts):
            yield f"metrics.{name}.n = {metric.n}, the counts are of {len(counts)} samples"
        if not _like(metric.ci95, sure[name]):
            yield f"metrics.{name}.ci95 = {metric.ci95}, the counts give {sure[name]}"


def _same(said: float | None, found: float) -> bool:
    if said is None or math.isnan(said) or math.isnan(found):
        return (said is None or math.isnan(said)) and math.isnan(found)
    return math.isclose(said, found, rel_tol=1e-9, abs_tol=1e-9)


def _like(said: tuple[float, float] | None, found: tuple[float, float] | None) -> bool:
    if said is None or found is None:
        return said is found
    slack = SLACK * (found[1] - found[0]) + 1e-9
    return all(abs(one - other) <= slack for one, other in zip(said, found, strict=True))


def _together(records: list[tuple[str, Record]], accepted: Sequence[Entry]) -> Iterator[Fault]:
    """Faults of records beside each other: one data set under one name has one fingerprint."""
    known: dict[tuple[str, str, int], tuple[str, str]] = {}
    for entry in accepted:
        for key, fingerprint in _fingerprints(entry.record):
            known.setdefault(key, (fingerprint, "the accepted records"))
    for name, record in records:
        for key, fingerprint in _fingerprints(record):
            other, where = known.setdefault(key, (fingerprint, name))
            if other != fingerprint:
                yield Fault(name, f"fingerprint of {key[1]!r} of {key[0]} = {fingerprint[:12]}, that of {where} is {other[:12]}")


def _fingerprints(record: Record) -> list[tuple[tuple[str, str, int], str]]:
    """((task, split, number of samples), fingerprint); nothing of a task whose card was changed."""
    if any(key.startswith("task.") for key in record.changed_values):
        return []
    data = record.dataset
    said = [
        ((record.task, data.split, data.n), data.fingerprint),
        ((record.task, data.train_split, data.train_n), data.train_fingerprint),
        ((record.task, f"{data.split}, contents", data.n), data.content_fingerprint),
        ((record.task, f"{data.train_split}, contents", data.train_n), data.train_content_fingerprint),
    ]
    return [(key, fingerprint) for key, fingerprint in said if fingerprint is not None]
