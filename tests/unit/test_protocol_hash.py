"""The hash of a protocol is of its values alone, and records with the older one, over its prose, stay comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.records import record
from tips_bench.cards import load_card
from tips_bench.catalog import shipped
from tips_bench.results.counts import card_differences
from tips_bench.results.protocol_hash import protocol_hash, whole_card_hash
from tips_bench.results.record import load_record

BASELINE = sorted((shipped("leaderboards") / "baseline").glob("*/*/*.json"))


def plain(name: str = "convex") -> dict[str, Any]:
    data: dict[str, Any] = load_card("protocol", name).model_dump(mode="json")
    return data


def saved(path: Path, card: dict[str, Any], stored: str) -> str:
    """The hash with which a record of the card is read that holds the hash `stored`."""
    one = record("ade20k", "tips-b14", card["name"])
    one.cards, one.protocol_hash = {"protocol": card}, stored
    one.save(path)
    return load_record(path).protocol_hash


@pytest.mark.parametrize("key", ["title", "source", "notes"])
def test_another_sentence_is_the_same_protocol(key: str) -> None:
    assert protocol_hash(plain() | {key: "another sentence"}) == protocol_hash(plain())


@pytest.mark.parametrize("change", [{"image": {"short_side": 512}}, {"probe": {"type": "linear"}}, {"version": 9}, {"name": "other"}])
def test_another_value_is_another_protocol(change: dict[str, Any]) -> None:
    assert protocol_hash(plain() | change) != protocol_hash(plain())


def test_the_order_of_keys_and_keys_that_are_null_change_nothing() -> None:
    turned = dict(reversed(plain().items()))
    assert protocol_hash(turned | {"new": None, "image": turned["image"] | {"new": None}}) == protocol_hash(plain())


def test_a_record_with_the_older_hash_is_read_with_the_one_of_today(tmp_path: Path) -> None:
    card = plain() | {"notes": "What the card said then."}
    assert whole_card_hash(card) != whole_card_hash(plain())
    assert saved(tmp_path / "a.json", card, whole_card_hash(card)) == protocol_hash(plain())
    assert card_differences(card, plain(), "A", "B") == []


def test_a_hash_that_is_neither_stays_as_it_is(tmp_path: Path) -> None:
    assert saved(tmp_path / "a.json", plain(), "9" * 64) == "9" * 64


@pytest.mark.parametrize("path", BASELINE, ids=lambda path: path.stem)
def test_the_records_of_the_baseline_are_of_todays_protocols(path: Path) -> None:
    found = load_record(path)
    assert found.protocol_hash == protocol_hash(plain(found.protocol))
    assert json.loads(path.read_text())["protocol_hash"] in (found.protocol_hash, whole_card_hash(found.cards["protocol"]))
