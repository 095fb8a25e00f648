"""One spec of a table: a task, a model and a protocol, as cards with the user's overrides applied and listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tips_bench.cards import CARDS, ModelCard, ProtocolCard, Strict, TaskCard, load_card, override, parse
from tips_bench.catalog import is_shipped
from tips_bench.encoders.load import resolve_model_card
from tips_bench.errors import NotAllowed, Unsuited, UserError
from tips_bench.evaluation.patch_sizes import for_patches
from tips_bench.results.protocol_hash import protocol_hash
from tips_bench.results.record import Deviation, shown_name
from tips_bench.results.reproduce import cache_dtype

Kind = Literal["task", "model", "protocol"]


@dataclass(frozen=True)
class Spec:
    """The cards as used. weights: a file, "random" or "random:SEED" in place of the card's. limit: at most so many samples of each split.

    deviations: what was overridden.
    """

    task: TaskCard
    model: ModelCard
    protocol: ProtocolCard
    weights: str | None
    limit: int | None
    deviations: list[Deviation]

    @property
    def weights_name(self) -> str | None:
        """The weights as a record names them: a file by its name alone."""
        return self.weights if self.weights is None or self.weights.startswith("random") else Path(self.weights).name

    @property
    def cache_dtype(self) -> str | None:
        """To what the features are rounded for a cache; None = they are not."""
        return cache_dtype(self.deviations)

    @property
    def model_name(self) -> str:
        """The model, with the weights behind it where they are not the card's."""
        return shown_name(self.model.name, self.weights_name)

    def cards(self) -> dict[str, Any]:
        """All three as plain data, for the record."""
        return {kind: getattr(self, kind).model_dump(mode="json") for kind in ("task", "protocol", "model")}

    @property
    def protocol_hash(self) -> str:
        """Hex SHA-256 of the values of the protocol as used."""
        return protocol_hash(self.protocol.model_dump(mode="json"))

    @property
    def applied(self) -> ProtocolCard:
        """The protocol with its sizes in pixels as they are for this model's patches."""
        return for_patches(self.protocol, self.model.patch_size)

    @property
    def takes_released_head(self) -> bool:
        """Whether the protocol takes a head that was released for the model, and trains none."""
        return self.protocol.probe.get("type") == "released"


def resolve(
    task: str,
    model: str | Path | ModelCard,
    protocol: str | None = None,
    *,
    overrides: Sequence[str] = (),
    weights: str | Path | None = None,
    limit: int | None = None,
    rounded: str | None = None,
) -> Spec:
    """Read the cards and apply `overrides`: "task.KEY=VALUE", "model.KEY=VALUE", and all others to the protocol.

    model: as for `load_encoder`. protocol: the task's default if None; one of the user's own runs on every task of its families.
    rounded: to what features are rounded for a cache; a deviation.
    Errors: an unknown name, a protocol that the task does not allow or that is not for its family, a value that does not fit, a model
    without the released head that the protocol takes.
    """
    chosen: dict[str, list[str]] = {"task": [], "model": [], "protocol": []}
    for assignment in overrides:
        prefix, _, rest = assignment.partition(".")
        if prefix in chosen and rest:
            chosen[prefix].append(rest)
        else:
            chosen["protocol"].append(assignment)
    deviations: list[Deviation] = []
    task_card = _changed("task", load_card("task", task), chosen["task"], deviations)
    name = protocol or task_card.protocol
    protocol_card = load_card("protocol", name).for_task(task_card.name)
    if protocol_card.name not in task_card.protocols and is_shipped("protocol", name):
        fix = f"Use one of: {', '.join(task_card.protocols)}."
        raise NotAllowed(f"protocol {protocol_card.name!r} is not allowed for this task", where=f"task {task_card.name}", fix=fix)
    if task_card.family not in protocol_card.families:
        families = ", ".join(protocol_card.families)
        raise UserError(
            f"protocol {name!r} is for {families}, not {task_card.family}", where=f"task {task_card.name}", fix="Choose another protocol."
        )
    protocol_card = _changed("protocol", protocol_card, chosen["protocol"], deviations)
    model_card = _changed("model", model if isinstance(model, ModelCard) else resolve_model_card(model), chosen["model"], deviations)
    if limit is not None:
        deviations.append(Deviation(card="run", key="limit", value=limit, text=f"limit = {limit} images of each split"))
    if rounded is not None:
        said = f"features rounded to {rounded}, as the cache keeps them"
        deviations.append(Deviation(card="run", key="cache_dtype", value=rounded, text=said))
    spec = Spec(task_card, model_card, protocol_card, None if weights is None else str(weights), limit, deviations)
    if spec.takes_released_head and task_card.family not in model_card.heads:
        raise _no_head(spec)
    return spec


def _no_head(spec: Spec) -> Unsuited:
    heads, family = spec.model.heads, spec.task.family
    has = f"has released heads only for {', '.join(heads)}" if heads else "has no released heads"
    problem = f"model {spec.model.name!r} {has}, and the protocol needs one for {family}"
    fix = f"Choose a TIPSv2 model, which has published heads, or another protocol: {', '.join(spec.task.protocols)}."
    return Unsuited(problem, where=f"protocol {spec.protocol.name}", fix=fix)


def _changed(kind: Kind, card: Any, assignments: list[str], deviations: list[Deviation]) -> Any:
    """The card with its overrides; each that changes something is added to `deviations` with the card's own value."""
    if not assignments:
        return card
    before = card.model_dump(mode="json")
    where = f"--set, {kind} {card.name}"
    changed: Strict = parse(CARDS[kind], override(before, assignments, where=where), where=where)
    after = changed.model_dump(mode="json")
    for assignment in assignments:
        key = assignment.partition("=")[0]
        old, new = _at(before, key), _at(after, key)
        if old != new:
            deviations.append(Deviation(card=kind, key=key, value=new, card_value=old))
    return changed


def _at(data: Any, key: str) -> Any:
    """The value under a dotted key, None where there is none."""
    for part in key.split("."):
        if isinstance(data, list) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        elif isinstance(data, dict) and part in data:
            data = data[part]
        else:
            return None
    return data
