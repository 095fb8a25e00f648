"""Which records are of one model, under whatever path or name its weights were given.

One checkpoint copied to two places is one model: the weights' SHA-256 and the values of the model's card decide, not the names. Where the
weights have no hash of their own (random weights, a function), and where files beside them that the record does not hash decide, too (a
folder of transformers with its config.json), the name decides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from tips_bench.files import digest
from tips_bench.results.record import Record

NAMES = {"name", "title", "license", "citation", "homepage", "published", "notes", "parameters", "weights"}  # of a card: no number changes


def model_key(record: Record) -> str:
    """Equal in two records of one model."""
    card = record.cards.get("model") or {}
    if not re.fullmatch(r"[0-9a-f]{64}", record.weights_sha256) or not card or "folder" in (card.get("architecture") or {}):
        return digest(record.model_name, record.weights_sha256)
    kept = {key: _named(value) for key, value in card.items() if key not in NAMES}
    return digest(record.weights_sha256, json.dumps(kept, sort_keys=True))


def _named(value: Any) -> Any:
    """A part of a card, of a local file its name alone."""
    if not isinstance(value, dict):
        return value
    return {key: PurePath(inner).name if key == "path" and isinstance(inner, str) else _named(inner) for key, inner in value.items()}


def shared_names(records: Iterable[Record]) -> dict[str, str]:
    """`model_key` -> the name of the model; one of several names has them all: "a = b"."""
    names: dict[str, set[str]] = {}
    for record in records:
        names.setdefault(model_key(record), set()).add(record.model_name)
    return {key: " = ".join(sorted(found)) for key, found in names.items()}


def told_apart(identity: tuple[str, ...], others: Iterable[tuple[str, ...]], run: int) -> str:
    """The label of a measured model: its name, with what tells it from others of that name.

    identity: name, SHA-256 of the weights, seed, precision. run: 1, 2, ... of those that agree in all four.
    """
    alike = [other for other in others if other[0] == identity[0]]
    parts = zip(("weights ", "seed ", ""), identity[1:], range(1, 4), strict=True)
    said = [what + text[:12] for what, text, place in parts if len({other[place] for other in alike}) > 1]
    said += [f"run {run}"] if run > 1 else []
    return f"{identity[0]} ({', '.join(said)})" if said else identity[0]


def measurement_key(record: Record) -> str:
    """Equal in two records of one model that say the same numbers of the same data: one measurement, made twice."""
    data = record.model_dump(mode="json", include={"task", "protocol_hash", "seed", "dataset", "metrics", "deviations"})
    return digest(model_key(record), record.cost.precision, json.dumps(data, sort_keys=True))
