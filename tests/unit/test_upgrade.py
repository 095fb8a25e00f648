"""Records of schema 1 become records of schema 2 when they are read, whatever stands in them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.records import record
from tips_bench.errors import UserError
from tips_bench.results.record import Deviation, Record, load_record
from tips_bench.results.reproduce import command
from tips_bench.results.upgrade import upgraded


def as_schema_1(path: Path, **changes: Any) -> Path:
    """A record as schema 1 had it."""
    record("ade20k", "tips-b14", "convex").save(path)
    data = json.loads(path.read_text())
    del data["weights"], data["features_id"]
    path.write_text(json.dumps(data | {"schema": "tips-bench/record/1"} | changes))
    return path


def test_one_thread_is_named_in_the_singular_and_other_devices_as_they_are(tmp_path: Path) -> None:
    record("ade20k", "tips-b14", "convex").save(tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    for stored, read in {"cpu, 1 threads": "cpu, 1 thread", "cpu, 11 threads": "cpu, 11 threads"}.items():
        data["cost"]["device"] = stored
        (tmp_path / "r.json").write_text(json.dumps(data))
        assert load_record(tmp_path / "r.json").cost.device == read


OLD_DEVIATIONS = [
    'protocol.features.layers = "even4" (card: [-1])',
    'task.data.options = {"a b": 1} (card: {})',
    'model.pad = null (card: "center")',
    "limit = 12 images of each split",
    "the fit stopped after 3 iterations",
]


def test_sentences_become_data_and_read_the_same(tmp_path: Path) -> None:
    found = load_record(as_schema_1(tmp_path / "r.json", deviations=OLD_DEVIATIONS, comparable=False))
    assert list(map(str, found.deviations)) == OLD_DEVIATIONS
    assert found.changed_values == {"protocol.features.layers": "even4", "task.data.options": {"a b": 1}, "model.pad": None}
    assert found.limit == 12
    assert found.deviations[0] == Deviation(card="protocol", key="features.layers", value="even4", card_value=[-1])
    assert found.deviations[-1] == Deviation(card="run", text="the fit stopped after 3 iterations")


@pytest.mark.parametrize(
    ("shown", "card", "model", "weights"),
    [
        ("tips-b14", None, "tips-b14", None),
        ("tips-b14@mine", None, "tips-b14", "mine.safetensors"),
        ("tips-b14@random:3", None, "tips-b14", "random:3"),
        ("hf:a/b@c@mine", "hf:a/b@c", "hf:a/b@c", "mine.safetensors"),
        ("hf:a/b@c", "hf:a/b@c", "hf:a/b@c", None),
        ("tips-b14@mine", "tips", "tips-b14", "mine.safetensors"),
    ],
)
def test_weights_are_split_from_the_models_name_and_show_the_same(
    tmp_path: Path, shown: str, card: str | None, model: str, weights: str | None
) -> None:
    cards = {} if card is None else {"model": {"name": card, "licence": "MIT"}}
    found = load_record(as_schema_1(tmp_path / "r.json", model=shown, cards=cards))
    assert (found.model, found.weights, found.model_name) == (model, weights, shown)
    assert not card or found.cards["model"]["license"] == "MIT"


def test_the_command_of_an_old_record_is_the_one_it_was(tmp_path: Path) -> None:
    found = load_record(as_schema_1(tmp_path / "r.json", model="tips-b14@mine", deviations=OLD_DEVIATIONS[:1] + OLD_DEVIATIONS[3:]))
    said = "run --task ade20k --model tips-b14 --protocol convex --dtype fp32 --weights mine.safetensors"
    assert command(found) == f"tips-bench {said} --set 'protocol.features.layers=\"even4\"' --limit 12"


def test_what_was_upgraded_is_saved_and_read_as_schema_2(tmp_path: Path) -> None:
    found = load_record(as_schema_1(tmp_path / "old.json", deviations=OLD_DEVIATIONS, model="tips-b14@mine"))
    found.save(tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text())["schema"] == "tips-bench/record/2"
    assert load_record(tmp_path / "new.json") == found


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
json_values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.slow
@given(st.fixed_dictionaries({}, optional={"cards": json_values, "model": json_values, "deviations": json_values}))
def test_nothing_that_stands_in_a_file_breaks_the_upgrade(data: dict[str, Any]) -> None:
    before = json.dumps(data)
    upgraded(data)
    assert json.dumps(data) == before


@given(st.sampled_from(["task", "protocol", "model"]), st.from_regex(r"[a-z]+(\.[a-z0-9]+){0,3}", fullmatch=True), json_values, json_values)
def test_every_value_comes_back_from_its_sentence(card: str, key: str, value: Any, card_value: Any) -> None:
    said = Deviation.model_validate({"card": card, "key": key, "value": value, "card_value": card_value})
    again = Deviation.model_validate(upgraded({"deviations": [str(said)]})["deviations"][0])
    assert str(again) == str(said)
    if " (card: " not in json.dumps([value, card_value]):
        assert again == said


@pytest.mark.parametrize("deviations", ["none", [3], [{"card": "protocol"}], [{"card": "weather", "text": "rain"}], [{"key": "a"}]])
def test_deviations_that_are_none_are_refused_with_their_place(tmp_path: Path, deviations: object) -> None:
    for schema in ("tips-bench/record/1", "tips-bench/record/2"):
        with pytest.raises(UserError, match=r"r\.json: deviations"):
            load_record(as_schema_1(tmp_path / "r.json", deviations=deviations, schema=schema))


@given(st.text(min_size=1), st.text())
def test_a_command_is_safe_to_paste(key: str, value: str) -> None:
    made = record("t", "m", "p", deviations=[Deviation(card="task", key=key, value=value)], weights="-x; rm.pth")
    words = shlex.split(command(made))
    assert words[-2:] == ["--set", f"task.{key}={json.dumps(value)}"] and "-x; rm.pth" in words
    assert isinstance(made, Record)
