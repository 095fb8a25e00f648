"""Evaluations as jobs: those on the same images of the same encoder together, so that they share its features and the heads of fits.

A job is plain data, which every executor can hand to a process elsewhere: resolved cards, not names, so that a card that is changed
later changes no job that waits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench import plugins
from tips_bench.cards import ModelCard, ProtocolCard, TaskCard, parse
from tips_bench.errors import UserError
from tips_bench.evaluation.sharing import unchanged_images_key
from tips_bench.evaluation.spec import Spec
from tips_bench.executors.matrix import Asked, evaluation_id
from tips_bench.files import digest
from tips_bench.results.cost import precision_of
from tips_bench.results.record import Deviation

Job = dict[str, Any]
"""folder: the working directory. command: the command line. plugins: modules to load. out: the results folder.
features: name of the folder in which features are shared. options: of RunOptions. evaluations: each with its id and its cards.
left_out: ids of evaluations that have failed already, if any."""


@dataclass(frozen=True)
class Settings:
    """How an executor does jobs. logs: folder for what they say. values: those of --slurm or --ray. at_once: local jobs at a time.

    ended: called with each job that has ended, and "" or why its process did not end well.
    """

    logs: Path
    ended: Callable[[Job, str], None]
    values: dict[str, str | int] = field(default_factory=dict)
    at_once: int | None = None


def asked_for(spec: Spec, options: dict[str, Any]) -> Asked:
    """An evaluation as the results folder keeps it. options: fields of RunOptions."""
    precision = precision_of(options["dtype"], options["compile"])
    own = evaluation_id(spec.cards(), spec.weights_name, options["seed"], spec.limit, precision, spec.cache_dtype)
    return Asked(own, spec.task.name, spec.model_name, spec.protocol.name, options["pictures"], tuple(options["metrics"]))


def jobs_of(specs: Sequence[Spec], options: dict[str, Any]) -> list[Job]:
    """The jobs in the order of their first evaluations. options: fields of RunOptions, plain data all of them."""
    groups: dict[tuple[str, ...], list[Spec]] = {}
    for spec in specs:
        groups.setdefault(unchanged_images_key(spec), []).append(spec)
    out = str(Path(options["out"]).absolute())
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    here = {"folder": os.getcwd(), "command": sys.argv, "plugins": os.environ.get(plugins.VARIABLE, "")}
    return [
        {
            **here,
            "out": out,
            "options": {**plain, "out": out},
            "features": digest(*key)[:16],
            "evaluations": [_as_data(spec, options) for spec in found],
        }
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
    cards = [one["cards"] for one in job["evaluations"]]
    tasks = ", ".join(dict.fromkeys(one["task"]["name"] for one in cards))
    return f"{cards[0]['model']['name']} on {tasks}, {len(cards)} evaluation{'s' * (len(cards) > 1)}"


def ranks_of(values: dict[str, str | int], gpus: str, where: str) -> int:
    """Takes "ranks" out of an executor's settings: by how many processes a job is done; by default one for each GPU.

    gpus: the setting that says how many GPUs a job gets. Errors: no whole number from 1.
    """
    ranks = values.pop("ranks", None)
    if ranks is None:
        number = values.get(gpus, 1)
        return max(1, number) if isinstance(number, int) else 1  # Slurm and Ray know other ways to ask for GPUs
    if not isinstance(ranks, int) or ranks < 1:
        raise UserError(f"ranks={ranks} is not a whole number from 1", where=where, fix="Write, for example, ranks=8.")
    return ranks
