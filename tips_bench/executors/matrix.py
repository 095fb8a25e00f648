"""What was asked for in a results folder, and what has become of it. There is no database: the folder tells.

    OUT/.matrix/evaluations.json    every evaluation that was given to an executor with this folder
    OUT/.matrix/ID.running          locked by the process that evaluates ID
    OUT/.matrix/ID.failed           the sentence with which the last try of ID ended
    OUT/.matrix/logs/               what the jobs said

An evaluation is done when its record is there. Needs no torch: reading the state starts fast.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tips_bench import claims
from tips_bench.catalog import PACKAGE
from tips_bench.errors import UserError
from tips_bench.files import digest, write_text
from tips_bench.results.folders import read_records
from tips_bench.results.kept_head import has_head
from tips_bench.results.predictions import predictions_folder
from tips_bench.results.provenance import git_state
from tips_bench.results.record import Record, load_record
from tips_bench.results.reproduce import cache_dtype

SCHEMA = "tips-bench/matrix/1"
State = Literal["done", "running", "queued", "failed", "left"]


@dataclass(frozen=True)
class Asked:
    """One evaluation. id: of its cards, weights, seed and precision; equal in its record.

    pictures, metrics, predictions, head: what the record has to have.
    """

    id: str
    task: str
    model: str
    protocol: str
    pictures: int = 0
    metrics: tuple[str, ...] = ()
    predictions: bool = False
    head: bool = False


@dataclass(frozen=True)
class Status:
    """What has become of one evaluation. sentence: why it failed, or which job has it. path: of its record, where it is done.

    queued: only `queue.ask_queue` tells it apart from what is left.
    """

    asked: Asked
    state: State
    sentence: str = ""
    path: Path | None = None


def evaluation_id(cards: dict[str, Any], weights: str | None, seed: int, limit: int | None, precision: str, rounded: str | None) -> str:
    """What an evaluation and its record have in common. cards: as in a record. weights: the name in a record.

    precision: as `precision_of`. rounded: to what the features are rounded for a cache.
    """
    return digest(json.dumps(cards, sort_keys=True), weights, seed, limit, precision, rounded)[:16]


def folder_of(out: Path) -> Path:
    """Where the state of a results folder lies."""
    return out / ".matrix"


def add(out: Path, asked: Sequence[Asked]) -> None:
    """Write the evaluations beside those that were asked for before, by other commands at this moment, too.

    Errors: the folder takes no file.
    """
    path = _list_of(out)
    with claims.waited_for(path.with_suffix(".lock")):
        known = {one.id: one for one in ([*read(out), *asked] if path.is_file() else asked)}
        _write(path, known.values())


def forget(out: Path, asked: Sequence[Asked]) -> None:
    """Take evaluations off the list; records stay. Errors: as for `add` and `read`."""
    path, gone = _list_of(out), {one.id for one in asked}
    with claims.waited_for(path.with_suffix(".lock")):
        _write(path, [one for one in read(out) if one.id not in gone])
    forget_failures(out, sorted(gone))


def _list_of(out: Path) -> Path:
    return folder_of(out) / "evaluations.json"


def _write(path: Path, asked: Iterable[Asked]) -> None:
    data = {"schema": SCHEMA, "evaluations": [asdict(one) for one in asked]}
    write_text(path, json.dumps(data, indent=1) + "\n", durable=True)


def read(out: Path) -> list[Asked]:
    """Every evaluation that was asked for. Errors: no such file, or one that is not ours."""
    path = _list_of(out)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError
        return [Asked(**{**one, "metrics": tuple(one["metrics"])}) for one in data["evaluations"]]
    except FileNotFoundError as error:
        fix = "Start evaluations there with `tips-bench run --on local|slurm|ray --out FOLDER`."
        raise UserError("no evaluations were started there with --on", where=out, fix=fix) from error
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path) from error
    except (ValueError, KeyError, TypeError) as error:
        fix = "Delete it and start the evaluations again: what has a record is kept."
        raise UserError("not a list of evaluations", where=path, fix=fix) from error


def status(out: Path, asked: Sequence[Asked], *, clean: bool = False) -> list[Status]:
    """What has become of each evaluation. done: its record was written by this version of tips-bench.

    clean: and neither the record nor this process is of a checkout with uncommitted changes, of which nobody knows what they change.
    """
    running = {one.id for one in asked if claims.is_claimed(folder_of(out) / f"{one.id}.running")}
    records = _records(out, clean)  # after the look at claims: of what has ended by then, the record is there
    return [Status(one, "running") if one.id in running else _status(out, one, records) for one in asked]


def _status(out: Path, asked: Asked, records: dict[str, list[Record]]) -> Status:
    failed_at, sentence = _failure(folder_of(out) / f"{asked.id}.failed")
    for record in records.get(asked.id, []):
        kept = (not asked.predictions or predictions_folder(record.file).is_dir()) and (not asked.head or has_head(record))
        whole = record.has_pictures(asked.pictures) and set(asked.metrics) <= set(record.beside) and kept
        if whole and record.file.stat().st_mtime >= failed_at:  # else a later try failed
            return Status(asked, "done", path=record.path)
    return Status(asked, "failed", sentence) if sentence else Status(asked, "left")


def _failure(path: Path) -> tuple[float, str]:
    """When a try failed, in seconds of the file system's clock, and its sentence; (0, "") where none did."""
    try:
        return path.stat().st_mtime, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return 0.0, ""


def _records(out: Path, clean: bool) -> dict[str, list[Record]]:
    """Those that this version of tips-bench wrote, by id; a broken one counts as not there."""
    try:
        found, _ = read_records(out, load_record)
    except UserError:
        return {}
    commit, dirty = git_state(PACKAGE)
    by_id: dict[str, list[Record]] = {}
    for record in found:
        if record.git_commit == commit and not (clean and (dirty or record.git_dirty)):
            precision, rounded = record.cost.precision, cache_dtype(record.deviations)
            own = evaluation_id(record.cards, record.weights, record.seed, record.limit, precision, rounded)
            by_id.setdefault(own, []).append(record)
    return by_id


@contextmanager
def claimed(out: Path, own: str) -> Iterator[bool]:
    """Whether this process has the evaluation to itself while the block runs; the sentence of an earlier failure is removed then."""
    path = folder_of(out) / f"{own}.running"
    with claims.claimed(path) as ours:
        if ours:
            path.with_suffix(".failed").unlink(missing_ok=True)
        yield ours


def begun_by(out: Path, own: str) -> str:
    """Which process has the evaluation, in words."""
    return claims.holder(folder_of(out) / f"{own}.running")


def say_failed(out: Path, own: str, sentence: str) -> None:
    """Leave the sentence with which an evaluation failed."""
    write_text(folder_of(out) / f"{own}.failed", sentence + "\n")


def forget_failures(out: Path, evaluations: Sequence[str]) -> None:
    """Remove the sentences of earlier tries. evaluations: their ids."""
    for own in evaluations:
        (folder_of(out) / f"{own}.failed").unlink(missing_ok=True)
