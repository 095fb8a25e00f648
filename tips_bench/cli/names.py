"""The names on a command line: lists separated by commas, `all` and `auto`. All names are checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tips_bench.catalog import card_files
from tips_bench.errors import CodeFailed, NotAllowed, Unsuited, UserError

if TYPE_CHECKING:
    from tips_bench.evaluation.spec import Spec

ALL = "all"
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class Job:
    """One evaluation as it was asked for. protocol: None = the task's own."""

    task: str
    model: str
    protocol: str | None = None


def split(text: str, option: str, everything: Callable[[], list[str]]) -> list[str]:
    """The names of a comma list in order, each once; `all` stands for `everything`. Errors: a list that names nothing."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError(f"{text!r} contains no name", where=option, fix="Give one or more names, separated by commas, or `all`.")
    expanded = [one for name in names for one in (everything() if name == ALL else [name])]
    return list(dict.fromkeys(expanded))


def number_or_auto(text: str, option: str, *, least: int) -> int | Literal["auto"]:
    """A whole number, or `auto`. Errors: anything else, a number below `least`."""
    if text == AUTO:
        return AUTO
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{text!r} is not a whole number from {least} on", where=option, fix=f"Give one, or `{AUTO}`.")
    return int(text)


def plan(
    task: str,
    model: str,
    protocol: str | None,
    *,
    overrides: list[str],
    weights: str | None,
    limit: int | None,
    rounded: str | None,
) -> tuple[list[Spec], list[CodeFailed]]:
    """Every evaluation that the comma lists ask for, model by model, with its cards read and overridden; and errors of models' own code.

    Where the protocols are `all`, those that a model is not made for are left out. Of several tasks and protocols, a task is not run
    under one that it does not allow, if it allows another one and another task allows that.
    Errors: an unknown name, with near ones; a task that allows none of the protocols, a protocol that no task allows; an override
    that does not fit; one weight file for several models.
    """
    from tips_bench.cards import load_card
    from tips_bench.evaluation.spec import resolve
    from tips_bench.variants import expand

    def protocols(task: str) -> list[str | None]:
        return [None] if protocol is None else [*split(protocol, "--protocol", lambda: load_card("task", task).protocols)]

    named = split(task, "--task", lambda: list(card_files("task")))
    tasks = list(dict.fromkeys(one for name in named for one in expand(name)))
    models = split(model, "--model", lambda: list(card_files("model")))
    if weights is not None and not weights.startswith("random") and len(models) > 1:
        fix = "Give one model, or use --weights random."
        raise UserError(f"{weights!r} is one weight file, but there are {len(models)} models", where="--weights", fix=fix)
    specs: list[Spec] = []
    jobs: list[Job] = []
    failed: dict[str, CodeFailed] = {}
    refused: list[tuple[Job, NotAllowed]] = []
    for job in (Job(t, m, p) for m in models for t in tasks for p in protocols(t)):
        if job.model in failed:
            continue
        try:
            options: dict[str, Any] = {"overrides": overrides, "weights": weights, "limit": limit, "rounded": rounded}
            specs.append(resolve(job.task, job.model, job.protocol, **options))
        except CodeFailed as error:
            failed[job.model] = error
            continue
        except Unsuited:
            if protocol != ALL:
                raise
            continue
        except NotAllowed as error:
            refused.append((job, error))
            continue
        jobs.append(job)
    _refuse_those_without(jobs, refused)
    return specs, list(failed.values())


def _refuse_those_without(jobs: list[Job], refused: list[tuple[Job, NotAllowed]]) -> None:
    """Errors: the first refusal that leaves a task without any protocol, or a protocol without any task."""
    tasks, protocols = {job.task for job in jobs}, {job.protocol for job in jobs}
    for job, refusal in refused:
        if job.task not in tasks or job.protocol not in protocols:
            raise refusal
