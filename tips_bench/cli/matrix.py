"""`run --on`: a list of evaluations as jobs of an executor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tips_bench.cli.output import print_error, print_table
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen, most_at_once
from tips_bench.journal import say
from tips_bench.registry import EXECUTORS

if TYPE_CHECKING:
    from tips_bench.evaluation.spec import Spec
    from tips_bench.executors.matrix import Status
    from tips_bench.results.record import Record


def run_on(specs: list[Spec], options: dict[str, Any], chosen: Chosen) -> list[Record] | None:
    """The records of the evaluations that succeeded; None where they are done elsewhere, later. What failed is printed.

    Evaluations that have a record, or that another process has begun, are left out.
    """
    from tips_bench.executors import matrix, queue
    from tips_bench.executors.evaluations import asked_for, jobs_of, name_of
    from tips_bench.executors.jobs import Job, Settings
    from tips_bench.results.record import load_record

    run = EXECUTORS.get(chosen.name)
    if options["rerun"]:
        raise UserError("--rerun does not go with --on", where=f"--on {chosen.name}", fix="Use another folder: --out FOLDER.")
    out = Path(options["out"])
    asked = [asked_for(spec, options) for spec in specs]
    ended = 0

    def say_ended(job: Job, problem: str) -> None:
        nonlocal ended
        ended += 1
        say(f"[{ended}/{len(jobs)}] {name_of(job)}")
        if problem:
            own = {one["id"] for one in job["arguments"]["evaluations"]}
            for one in matrix.status(out, [one for one in asked if one.id in own]):
                if one.state == "left":
                    matrix.say_failed(out, one.asked.id, problem)

    def note(job: Job, number: str, log: Path) -> None:
        queue.note_queued(out, [one["id"] for one in job["arguments"]["evaluations"]], number, log)

    settings = Settings(matrix.folder_of(out) / "logs", say_ended, chosen.values, chosen.at_once, queued=note)
    run([], settings)  # what it refuses is not asked for
    matrix.add(out, asked)
    state = queue.ask_queue(out, matrix.status(out, asked, clean=True))
    jobs = jobs_of(
        [spec for spec, one in zip(specs, state, strict=True) if one.state in ("failed", "left")],
        options,
        most_at_once(chosen, options["device"]),
    )
    say(f"{summary(state)}; {len(jobs)} jobs for the rest")
    if not run(jobs, settings) and any(one.state != "done" for one in state):
        say(f"see what is done: tips-bench status {out}")
        return None
    state = matrix.status(out, asked)
    for one in state:
        if one.state != "done":
            print_error(_why_not(one, matrix.begun_by(out, one.asked.id)))
    return [load_record(one.path) for one in state if one.path is not None]


def _why_not(one: Status, begun_by: str) -> UserError:
    """Why there is no record, after all jobs have ended. begun_by: the process that evaluates it now, if one does."""
    if one.state == "failed":
        return UserError(one.sentence)
    where = f"{one.asked.task}, {one.asked.model}, {one.asked.protocol}"
    if one.state == "running":
        return UserError(f"{begun_by} evaluates it now", where=where, fix="Give the same command again when it has ended.")
    return UserError("no job has made its record", where=where, fix="Give the same command again.")


def summary(state: list[Status]) -> str:
    """ "12 done, 1 running, 0 failed, 4 left", and how many are queued if any are."""
    counted = Counter[str](one.state for one in state)
    names = ("done", "running", *(["queued"] if counted["queued"] else []), "failed", "left")
    return ", ".join(f"{counted[name]} {name}" for name in names)


def print_status(state: list[Status]) -> None:
    """A row an evaluation, then the sum."""
    rows = [[one.asked.task, one.asked.model, one.asked.protocol, one.state, one.sentence] for one in state]
    print_table(["task", "model", "protocol", "state", "why"], rows)
    print(summary(state))
