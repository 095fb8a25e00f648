"""The hash of a protocol's values, by which records are told to be comparable.

Prose is left out: a better sentence in a card takes no record off its board. What is null is left out, too, so that a card may gain a key
without another hash. Earlier records hold a hash over prose and nulls; it is recognized and brought up to date when a record is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tips_bench.files import digest

PROSE = ("title", "source", "notes")


def protocol_hash(card: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a protocol card as plain data, without its prose and without what is null."""
    values = _said({key: value for key, value in card.items() if key not in PROSE})
    return digest(json.dumps(values, sort_keys=True))


def whole_card_hash(card: Mapping[str, Any]) -> str:
    """Hex SHA-256 of all of a card, prose and nulls too, as earlier records hold it."""
    return digest(json.dumps(card, sort_keys=True))


def _said(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _said(part) for key, part in value.items() if part is not None}
    return value
