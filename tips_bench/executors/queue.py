"""What Slurm says of jobs that were queued: they wait or run, or have ended, and how.

OUT/.matrix/ID.queued    the job that is to evaluate ID, and its log
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tips_bench.executors.matrix import Status, folder_of, forget_failures
from tips_bench.files import write_text

LOOK_IN_QUEUE_S = 30.0


@dataclass(frozen=True)
class Queued:
    """The job of an evaluation. number: as Slurm prints it, "7_0". user: who queued it."""

    number: str
    log: str
    user: int


class Queue:
    """Which jobs have left Slurm's queue. submitit asks Slurm's accounting, without which it never learns of a job that was cancelled."""

    def __init__(self) -> None:
        self._next_look, self._missing = 0.0, set[str]()

    def lost(self, left: Iterable[str]) -> set[str]:
        """Those of these job ids that were not there at two looks one after another: what a job leaves may be seen later than its end."""
        if time.monotonic() < self._next_look:
            return set()
        self._next_look = time.monotonic() + LOOK_IN_QUEUE_S
        there = in_queue([os.getuid()])
        if there is None:
            return set()
        missing = set(left) - there
        lost, self._missing = missing & self._missing, missing
        return lost


def in_queue(users: Collection[int]) -> set[str] | None:
    """The ids of these users' jobs that wait or run; None where Slurm does not answer."""
    said = _answer("squeue", "--noheader", "--array", "--format=%i", f"--user={','.join(map(str, sorted(users)))}")
    return None if said is None else set(said.split())


def ended_as(numbers: Sequence[str]) -> dict[str, str]:
    """How jobs have ended, "TIMEOUT" for example, as far as Slurm's accounting knows it."""
    said = _answer("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(numbers)}") or ""
    rows = (line.partition("|") for line in said.splitlines())
    return {number: state for number, _, state in rows}


def note_queued(out: Path, evaluations: Sequence[str], number: str, log: Path) -> None:
    """Note which job is to do evaluations; earlier failures of them are forgotten."""
    for own in evaluations:
        write_text(_note_of(out, own), json.dumps({"job": number, "log": str(log)}) + "\n")
    forget_failures(out, evaluations)


def forget_queued(out: Path, evaluations: Sequence[str]) -> None:
    """Remove the notes of `note_queued`."""
    for own in evaluations:
        _note_of(out, own).unlink(missing_ok=True)


def ask_queue(out: Path, found: Sequence[Status]) -> list[Status]:
    """The same, but of those left: whether Slurm has them in its queue, or has ended their job without a record, which is a failure."""
    jobs = {one.asked.id: job for one in found if one.state == "left" and (job := _read(out, one.asked.id))}
    there = in_queue({job.user for job in jobs.values()}) if jobs else set()
    ended = ended_as(sorted({job.number for job in jobs.values()} - there)) if there is not None and jobs else {}
    return [_with_job(one, jobs[one.asked.id], there, ended) if one.asked.id in jobs else one for one in found]


def _with_job(one: Status, job: Queued, there: set[str] | None, ended: dict[str, str]) -> Status:
    if there is None:
        return replace(one, sentence=f"Slurm has it as job {job.number}, but does not answer on this machine")
    if job.number in there:
        return replace(one, state="queued", sentence=f"Slurm's job {job.number}")
    how = f" ({ended[job.number]})" if job.number in ended else ""
    return replace(one, state="failed", sentence=f"Slurm's job {job.number} ended{how} without its record; its log is {job.log}")


def _note_of(out: Path, own: str) -> Path:
    return folder_of(out) / f"{own}.queued"


def _read(out: Path, own: str) -> Queued | None:
    path = _note_of(out, own)
    with suppress(FileNotFoundError):
        data = json.loads(path.read_text(encoding="utf-8"))
        return Queued(data["job"], data["log"], path.stat().st_uid)
    return None


def _answer(*command: str) -> str | None:
    """What a command prints; None where it is missing or fails."""
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return asked.stdout if asked.returncode == 0 else None
