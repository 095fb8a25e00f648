"""Evaluations as jobs: those on the same images of the same encoder together, so that they share its features and the heads of fits.

The arguments of such a job have resolved cards, not names, so that a card that is changed later changes no job that waits. A job may be
stopped at any time and started again: what has a record is kept, and the rest goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tips_bench.cards import ModelCard, ProtocolCard, TaskCard, parse
from tips_bench.errors import UserError, system_fault
from tips_bench.evaluation.sharing import job_key
from tips_bench.evaluation.spec import Spec
from tips_bench.executors.jobs import Job, new_job
from tips_bench.executors.matrix import Asked, begun_by, claimed, evaluation_id, folder_of, say_failed
from tips_bench.files import digest
from tips_bench.heartbeat import last_words
from tips_bench.journal import say
from tips_bench.ranks import ALONE, World
from tips_bench.results.cost import precision_of
from tips_bench.results.record import Deviation

EVALUATE = "tips_bench.executors.evaluations:evaluate"


def asked_for(spec: Spec, options: dict[str, Any]) -> Asked:
    """An evaluation as the results folder keeps it. options: fields of RunOptions."""
    precision = precision_of(options["dtype"], options["compile"])
    own = evaluation_id(spec.cards(), spec.weights_name, options["seed"], spec.limit, precision, spec.cache_dtype)
    names = spec.task.name, spec.model_name, spec.protocol.name
    return Asked(own, *names, options["pictures"], tuple(options["metrics"]), options["predictions"], options["keep_head"])


def jobs_of(specs: Sequence[Spec], options: dict[str, Any], at_once: int | None = None) -> list[Job]:
    """The jobs in the order of their first evaluations. options: fields of RunOptions, plain data all of them.

    at_once: how many run at the same time; None = perhaps all.
    """
    groups: dict[tuple[str, ...], list[Spec]] = {}
    for spec in specs:
        groups.setdefault(job_key(spec), []).append(spec)
    out = str(Path(options["out"]).absolute())
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    sharing = sum(len(found) > 1 for found in groups.values())  # only these keep features on the disk
    shared = {"out": out, "options": {**plain, "out": out}, "jobs": max(1, min(sharing, at_once or sharing))}
    return [
        new_job(
            EVALUATE,
            {**shared, "features": digest(*key)[:16], "evaluations": [_as_data(spec, options) for spec in found]},
            options["device"],
        )
        for key, found in groups.items()
    ]


def _as_data(spec: Spec, options: dict[str, Any]) -> dict[str, Any]:
    deviations = [one.model_dump(mode="json") for one in spec.deviations]
    own = asked_for(spec, options).id
    return {"id": own, "cards": spec.cards(), "weights": spec.weights, "limit": spec.limit, "deviations": deviations}


def spec_of(data: dict[str, Any]) -> Spec:
    """The evaluation that was made data. Errors: cards that this version of tips-bench does not know."""
    where = "cards of a job"
    task, model, protocol = (data["cards"][kind] for kind in ("task", "model", "protocol"))
    cards = parse(TaskCard, task, where=where), parse(ModelCard, model, where=where), parse(ProtocolCard, protocol, where=where)
    deviations = [Deviation.model_validate(one) for one in data["deviations"]]
    return Spec(*cards, data["weights"], data["limit"], deviations)


def name_of(job: Job) -> str:
    """What a job evaluates, for people."""
    cards = [one["cards"] for one in job["arguments"]["evaluations"]]
    tasks = ", ".join(dict.fromkeys(one["task"]["name"] for one in cards))
    return f"{cards[0]['model']['name']} on {tasks}, {len(cards)} evaluation{'s' * (len(cards) > 1)}"


def evaluate(
    out: str,
    options: dict[str, Any],
    features: str,
    evaluations: Sequence[dict[str, Any]],
    left_out: Sequence[str] = (),
    jobs: int = 1,
    world: World = ALONE,
) -> list[str]:
    """Evaluate one after another and return the paths of the records. One that fails leaves its sentence in the results folder.

    One that another process has begun is left to it. out: the results folder. options: of RunOptions. features: name of the folder in which
    features are shared. evaluations: each with its id and its cards. left_out: ids of those that have failed already. jobs: how many may
    fill the disk at the same time. world: this process as one of several that do the job together.
    Errors: a bug, after its sentence was left; of several ranks, one that fails ends with its error.
    """
    from tips_bench.evaluation.estimate import shared_passes
    from tips_bench.evaluation.run import RunOptions, evaluate_spec

    folder, paths = Path(out), []
    specs = [spec_of(one) for one in evaluations]
    chosen = RunOptions(**options, world=world)
    with shared_passes(specs, chosen, folder / ".features" / features, jobs) as sharing:
        for one, spec, shared in zip(evaluations, specs, sharing, strict=True):
            if one["id"] in left_out:
                continue
            with _claimed_together(folder, one["id"], world) as ours:
                if not ours:
                    if world.is_first:
                        say(f"{spec.task.name}, {spec.model_name}, {spec.protocol.name}: left to {begun_by(folder, one['id'])}")
                    continue
                try:
                    with last_words(partial(say_failed, folder, one["id"])):
                        paths.append(str(evaluate_spec(spec, chosen, shared=shared).file))
                except Exception as error:
                    fault = _fault(error)
                    if fault or world.size == 1 or not (folder_of(folder) / f"{one['id']}.failed").is_file():  # else another rank told why
                        say_failed(folder, one["id"], str(fault or f"a bug: {type(error).__name__}: {error}"))
                    if not fault or world.size > 1:
                        raise
    return paths


def _fault(error: Exception) -> UserError | None:
    """What the user can mend; None of a bug."""
    if isinstance(error, OSError):
        return system_fault(error)
    return error if isinstance(error, UserError) else None


@contextmanager
def _claimed_together(out: Path, own: str, world: World) -> Iterator[bool]:
    """As `claimed`, by the first rank for all."""
    with ExitStack() as held:
        yield world.told(lambda: held.enter_context(claimed(out, own)))
