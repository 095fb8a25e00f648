"""Records and the counts beside them: broken, forged, hostile, met by every verb that reads them."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.frame import Attack, Case, command, corpus, meet, seeded
from tests.attacks.mutations import bytes_mutated, data_mutated
from tests.attacks.seeds import HOME
from tests.helpers.results_sets import write_record
from tips_bench.files import sha256
from tips_bench.results.record import load_record

VERBS: dict[str, list[str]] = {
    "table": ["table", "new"],
    "table as JSON": ["table", "new", "--json"],
    "table as LaTeX": ["table", "new", "--format", "latex"],
    "compare": ["compare", "old", "new"],
    "compare as JSON": ["compare", "old", "new", "--json"],
    "check": ["check", "new", "--against", "old"],
    "build": ["leaderboard", "build", "new", "--to", "out"],
    "validate": ["leaderboard", "validate", "new"],
}
FORMS = 30


@functools.cache
def records() -> Path:
    """Two folders, `old` and `new`, of a record each, with its counts."""
    for name, quality in (("old", 0.5), ("new", 0.6)):
        path = write_record(HOME / "records" / name, "tips-b14", quality)
        record = load_record(path)
        record.per_sample_sha256 = sha256(path.with_name(record.per_sample))
        record.save(path)
    return HOME / "records"


def changed(folder: Path, verb: str, suffix: str, data: bytes) -> Attack:
    """The folders, with one file of `new` replaced."""
    for name in ("old", "new"):
        shutil.copytree(records() / name, folder / name)
    next((folder / "new").rglob(f"*{suffix}")).write_bytes(data)
    return command(*VERBS[verb])


def original(suffix: str) -> bytes:
    return next((records() / "new").rglob(f"*{suffix}")).read_bytes()


def nth(forms: Iterator[tuple[str, Any]], number: int) -> Any:
    return next(form for index, (_, form) in enumerate(forms) if index == number)


def cases(kind: str, suffix: str) -> Iterator[Case]:
    for verb in VERBS:
        for number in range(FORMS):

            def prepare(folder: Path, verb: str = verb, number: int = number) -> Attack:
                data, rng = original(suffix), seeded(kind, verb)
                if kind == "record values":
                    return changed(folder, verb, suffix, json.dumps(nth(data_mutated(json.loads(data), number + 1, rng), number)).encode())
                return changed(folder, verb, suffix, nth(bytes_mutated(data, number + 1, rng), number))

            yield Case(f"{verb}, form {number}", prepare, statuses=(0, 1, 2))


@corpus("record values", list(cases("record values", ".json")))
def test_a_record_with_a_hostile_value_is_read_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


@corpus("record bytes", list(cases("record bytes", ".json")))
def test_a_broken_record_is_read_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


@corpus("counts", list(cases("counts", ".samples.npz")))
def test_counts_that_changed_are_refused(case: Case, arena: Path) -> None:
    outcome = meet(case, arena)
    if "table" not in case.name:  # which reads no counts
        # `compare` of folders names what it leaves out and goes on with the others
        assert outcome.status != 0 or "SHA-256 is another" in outcome.err or "broken" in outcome.err or "holds" in outcome.err


def test_the_records_that_are_attacked_pass_as_they_are(arena: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(records(), "records")
    outcome = command("compare", "records/old", "records/new")()
    assert outcome.status == 0, outcome
