"""Records of older schemas, brought up to the current one when they are read; the files stay as they are.

Records of every schema may hold a hash of their protocol that covers its prose; they get the one that does not. They may also name one
thread in the plural; so that machines are told apart by their names alone, they get today's.

Schema 1 kept its deviations as sentences, the weights behind the model's name ("tips-b14@checkpoint"), and spelled a key of the cards
"licence".
"""

from __future__ import annotations

import json
import re
from typing import Any

from tips_bench.results.protocol_hash import protocol_hash, whole_card_hash

OLDER_SCHEMAS = ("tips-bench/record/1",)
_CHANGED = re.compile(r"(task|model|protocol)\.(\S+) = (.*) \(card: (.*)\)", re.DOTALL)
_LIMIT = re.compile(r"limit = (\d{1,9}) images of each split")


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record of schema 1 as those of schema 2. What is not as schema 1 has it stays as it is, for others to refuse."""
    data = dict(data)
    if isinstance(data.get("cards"), dict):
        data["cards"] = {kind: _renamed(card) for kind, card in data["cards"].items()}
    if isinstance(data.get("model"), str):
        data["model"], data["weights"] = _split(data["model"], data.get("cards"))
    if isinstance(data.get("deviations"), list):
        data["deviations"] = [_deviation(one) if isinstance(one, str) else one for one in data["deviations"]]
    return data


def with_current_hash(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record with the hash of its protocol as it is made now, where the stored one was made over prose and nulls, too."""
    cards = data.get("cards")
    card = cards.get("protocol") if isinstance(cards, dict) else None
    if not isinstance(card, dict) or data.get("protocol_hash") != whole_card_hash(card):
        return data
    return data | {"protocol_hash": protocol_hash(card)}


def with_current_device(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record with its device as it is named now: records said "cpu, 1 threads"."""
    cost = data.get("cost")
    if not isinstance(cost, dict) or cost.get("device") != "cpu, 1 threads":
        return data
    return data | {"cost": cost | {"device": "cpu, 1 thread"}}


def _renamed(card: Any) -> Any:
    return {"license" if key == "licence" else key: value for key, value in card.items()} if isinstance(card, dict) else card


def _split(shown: str, cards: Any) -> tuple[str, str | None]:
    """(name of the model, its weights). Of a file schema 1 kept the name without its suffix, which was mostly this one."""
    card = cards.get("model") if isinstance(cards, dict) else None
    name = card.get("name") if isinstance(card, dict) else None
    if not isinstance(name, str) or (shown != name and not shown.startswith(f"{name}@")):
        name = shown.partition("@")[0]
    weights = shown[len(name) + 1 :]
    return name, None if not weights else weights if weights.startswith("random") else f"{weights}.safetensors"


def _deviation(sentence: str) -> dict[str, Any]:
    if limit := _LIMIT.fullmatch(sentence):
        return {"card": "run", "key": "limit", "value": int(limit[1]), "text": sentence}
    if changed := _CHANGED.fullmatch(sentence):
        card, key, *values = changed.groups()
        try:
            value, card_value = map(json.loads, values)
        except (ValueError, RecursionError):
            pass
        else:
            return {"card": card, "key": key, "value": value, "card_value": card_value}
    return {"card": "run", "text": sentence}
