"""Plain YAML: what a file means, bases, overrides; hostile files run nothing and stop early, and the sentence for each mistake."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from tips_bench import plain_yaml
from tips_bench.errors import UserError
from tips_bench.plain_yaml import override, read_yaml


def put(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    return str(caught.value)


# Reading


def test_a_card_is_its_mapping(tmp_path: Path) -> None:
    text = "a: 1\nb: {c: [1, x, null, true, 1.5]}\n"
    assert read_yaml(put(tmp_path, card=text)) == yaml.safe_load(text)


def test_a_base_is_merged_deep_and_a_card_wins_over_it(tmp_path: Path) -> None:
    path = put(tmp_path, card="_base_: base.yaml\nb: {d: 3}\n", base="a: 1\nb: {c: 1, d: 2}\n")
    assert read_yaml(path) == {"a": 1, "b": {"c": 1, "d": 3}}


def test_a_mapping_can_replace_its_bases_in_place_of_merging(tmp_path: Path) -> None:
    path = put(tmp_path, card="_base_: base.yaml\nb: {_delete_: true, d: 3}\n", base="b: {c: 1}\n")
    assert read_yaml(path) == {"b": {"d": 3}}


# Hostile or broken files


@pytest.mark.parametrize("tag", ["apply:os.system", "object/apply:os.system", "object/new:os.system", "name:os.system", "module:os"])
@pytest.mark.parametrize("as_base", [False, True])
def test_a_tag_that_builds_an_object_runs_nothing(tmp_path: Path, tag: str, as_base: bool) -> None:
    evil = f"a: !!python/{tag} ['touch {tmp_path}/ran']\n"
    path = put(tmp_path, card="_base_: evil.yaml\n", evil=evil) if as_base else put(tmp_path, card=evil)
    assert "is not plain data" in refused(path) and ":1:" in refused(path)
    assert not (tmp_path / "ran").exists()


def test_a_base_that_is_python_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open(r'{tmp_path}/ran', 'w')\n")
    assert "a card is a .yaml file, not .py" in refused(put(tmp_path, card="_base_: evil.py\n"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", r":1: an alias \(\*name\) is not plain data"),
        ("a: &a [*a]\n", "an alias"),
        ("a: 2020-01-01\n", "a value of type 'timestamp' is not plain data"),
        ("a: !!binary aGVsbG8=\n", "a value of type 'binary' is not plain data"),
        ("a: !!set {x, y}\n", "a value of type 'set' is not plain data"),
        ("a: 1\nb: 2\na: 3\n", ":3: the key 'a' is given twice"),
        ("a: {1: x}\n", ":1: a key is not text"),
        ("a: !!bool x\n", "not plain YAML"),
        ("a: !!int ''\n", "not plain YAML"),
        ("a: !!float\n", "not plain YAML"),
        ("a: " + "1" * 5000, r":1: the integer 1+\.\.\. does not fit into 64 bits"),
        ("a: 0x" + "f" * 5000, "does not fit into 64 bits"),
        ("a: 9223372036854775808\n", "the integer 9223372036854775808 does not fit into 64 bits"),
        ("a: 1e999\n", "1e999 is not a finite number"),
        ("a: .nan\n", ".nan is not a finite number"),
        ("a: [-.inf]\n", "-.inf is not a finite number"),
        ("a: " + "[" * 60 + "]" * 60, "nested over 40 levels deep"),
        ("a: " + "[" * 100_000, "not plain YAML: .*nesting"),
        ("a: [1\n", "not plain YAML"),
        ("a: 1\n---\nb: 2\n", "not plain YAML: .*single document"),
        ("a: \x07\n", "not plain YAML"),
        ("- a\n", "a card is a mapping of names to values, this is a list"),
        ("", "a card is a mapping of names to values, this is a NoneType"),
        ("_base_: 3\n", "_base_ = 3"),
        ("_base_:\n", "_base_ = None"),
        ('_base_: "b\\0.yaml"\n', "_base_ = 'b"),
        ("_base_: absent.yaml\n", "absent.yaml: cannot read: No such file or directory"),
        ("_base_: card.yaml\n", "`_base_` refers back to the file itself"),
        ("_base_: /etc/passwd\n", "a card is a .yaml file, not a file without a suffix"),
        ("a: " + "x" * (1 << 20), "a card of over 1048576 bytes"),
    ],
)
def test_a_file_that_is_not_plain_data_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    assert re.search(message, refused(put(tmp_path, card=text)), re.DOTALL)


def test_bases_in_a_circle_are_refused(tmp_path: Path) -> None:
    assert "refers back to the file itself" in refused(put(tmp_path, card="_base_: b.yaml\n", b="_base_: c.yaml\n", c="_base_: b.yaml\n"))


def test_bases_that_multiply_are_refused_before_they_are_read(tmp_path: Path) -> None:
    files = {f"c{i}": f"_base_: [c{i + 1}.yaml, c{i + 1}.yaml]\nk{i}: 1\n" for i in range(40)}
    assert "the card has over 32 bases" in refused(put(tmp_path, **files, c40="a: 1\n"))


def test_two_bases_that_give_one_key_are_refused(tmp_path: Path) -> None:
    assert "two bases have the key 'a'" in refused(put(tmp_path, card="_base_: [b.yaml, c.yaml]\n", b="a: 1\n", c="a: 2\n"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    assert "not UTF-8 text" in refused(path)


def test_a_folder_is_not_a_card(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").mkdir()
    assert "it is not a file" in refused(tmp_path / "card.yaml")


def test_a_pipe_and_a_link_to_itself_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "it is not a file" in refused(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert "cannot read: Too many levels of symbolic links" in refused(tmp_path / "loop.yaml")


# Numbers


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("1e-4", 0.0001), ("1E5", 100000.0), ("-2.5e+3", -2500.0), (".5", 0.5), ("3.", 3.0), ("+7", 7), ("-0", 0)],
        *[("010", 10), ("08", 8), ("0o17", 15), ("0xff", 255), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
    ],
)
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, text: str, number: float) -> None:
    read = read_yaml(put(tmp_path, card=f"a: {text}\n"))["a"]
    assert read == number and type(read) is type(number)


@pytest.mark.parametrize("text", ["1:30", "190:20:30.15", "1_000", "0b11", "1e", "e5", ".", "-x", "0o8", "1.2.3", "{{ x }}"])
def test_what_is_a_number_in_yaml_1_1_alone_is_text(tmp_path: Path, text: str) -> None:
    quoted = f"'{text}'" if "{" in text else text
    assert read_yaml(put(tmp_path, card=f"a: {quoted}\n")) == {"a": text}


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_dumped_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(plain_yaml.dump(data), encoding="utf-8")
    assert plain_yaml.load(path) == data


@given(st.from_regex(r"[-+.0-9][-+.0-9eExXoO_:a-f]{0,6}", fullmatch=True))
def test_text_that_looks_like_a_number_is_dumped_as_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_text(plain_yaml.dump({"a": text}), encoding="utf-8")
    assert plain_yaml.load(path) == {"a": text}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1))
def test_every_number_of_json_is_that_number(number: float) -> None:
    read = override({}, [f"a={json.dumps(number)}"])["a"]
    assert read == number and type(read) is type(number)


# Bases, against mmengine's own merging

KEYS = st.text(alphabet="ab", min_size=1, max_size=2)
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(alphabet="xy ", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3) | st.dictionaries(KEYS | st.just("_delete_"), inner)
    ),
    max_leaves=10,
)
CARDS = st.lists(st.tuples(st.dictionaries(KEYS, PARTS, max_size=3), st.sets(st.integers(1, 3), max_size=2)), min_size=1, max_size=5)


@settings(deadline=None, max_examples=80)
@given(CARDS)
def test_bases_are_merged_as_mmengine_merges_them(tmp_path_factory: pytest.TempPathFactory, made: list[tuple[dict, set[int]]]) -> None:
    folder = tmp_path_factory.mktemp("cards")
    for number, (data, steps) in enumerate(made):
        bases = [f"{number + step}.yaml" for step in sorted(steps) if number + step < len(made)]
        written = {"_base_": bases[0] if len(bases) == 1 else bases, **data} if bases else data
        (folder / f"{number}.yaml").write_text(json.dumps(written))  # JSON is YAML in every version of it
    try:
        expected = Config.fromfile(folder / "0.yaml").to_dict()
    except (KeyError, TypeError):
        with pytest.raises(UserError, match="cannot be merged"):
            read_yaml(folder / "0.yaml")
    else:
        assert json.dumps(read_yaml(folder / "0.yaml")) == json.dumps(expected)  # in the same order, too


def test_a_mapping_over_what_is_none_says_how_to_replace_it(tmp_path: Path) -> None:
    path = put(tmp_path, card="_base_: base.yaml\na: {b: 1}\n", base="a: 1\n")
    assert "'a' is a mapping here, but not in the base. Say `_delete_: true`" in refused(path)


# Overrides


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a=2", {"a": 2, "b": {"c": [1, 2]}}),
        ("b.c=[3]", {"a": 1, "b": {"c": [3]}}),
        ("b.c.1=x", {"a": 1, "b": {"c": [1, "x"]}}),
        ("b.d.e=1e-3", {"a": 1, "b": {"c": [1, 2], "d": {"e": 0.001}}}),
        ("b.d=1.0e-3", {"a": 1, "b": {"c": [1, 2], "d": 0.001}}),
        ("a=", {"a": None, "b": {"c": [1, 2]}}),
        ("a=x=y", {"a": "x=y", "b": {"c": [1, 2]}}),
        ("a={k: null}", {"a": {"k": None}, "b": {"c": [1, 2]}}),
    ],
)
def test_an_override_sets_one_value_read_as_yaml(assignment: str, expected: dict[str, Any]) -> None:
    data = {"a": 1, "b": {"c": [1, 2]}}
    assert override(data, [assignment]) == expected
    assert data == {"a": 1, "b": {"c": [1, 2]}}, "the original stays as it was"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("a", "'a' is not KEY=VALUE"),
        ("=1", "'=1' is not KEY=VALUE"),
        ("a=[1", "the value is not YAML"),
        ("a=!!python/object/apply:os.system [ls]", "is not plain data"),
        ("a=2020-01-01", "a value of type 'timestamp' is not plain data"),
        ("a={1: x}", "a key is not text"),
        ("a=&x [*x]", "an alias"),
        ("a=" + "9" * 5000, "does not fit into 64 bits"),
        ("a=" + "[" * 60 + "]" * 60, "nested over 40 levels deep"),
        ("a=" + "[" * 100_000, "the value is not YAML"),
        ("b." * 5000 + "c=1", "the key is over 40 levels deep"),
        ("b.c." + "1" * 5000 + "=1", "is not an index below 2"),
        ("b.c.2=1", "'2' is not an index below 2"),
        ("b.c.x=1", "'x' is not an index below 2"),
        ("b.c.-1=1", "'-1' is not an index below 2"),
        ("a.x=1", "has no keys"),
        ("a.x.y=1", "'x' cannot be looked up in a single value"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(UserError, match="--set") as caught:
        override({"a": 1, "b": {"c": [1, 2]}}, [assignment])
    assert message in str(caught.value)


def test_later_overrides_win(tmp_path: Path) -> None:
    assert override({"a": 1}, ["a=2", "a=3"]) == {"a": 3}
