"""Cards: hostile YAML runs nothing and stops early, overrides, and the sentence for each mistake."""

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

from tips_bench import cards, catalog, registry
from tips_bench.cards import card_hash, load_card, override, parse, read_yaml
from tips_bench.errors import UserError

PROTOCOL: dict[str, Any] = {
    "name": "p",
    "version": 1,
    "title": "A protocol",
    "families": ["segmentation"],
    "source": "nowhere",
    "image": {"short_side": 224},
    "probe": {"type": "convex"},
}


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


def test_mmengine_itself_reads_yaml_safely_once_cards_are_imported(tmp_path: Path) -> None:
    path = put(tmp_path, card=f"a: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    with pytest.raises(yaml.YAMLError):
        Config.fromfile(path)
    assert not (tmp_path / "ran").exists()


def test_a_base_that_is_python_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open(r'{tmp_path}/ran', 'w')\n")
    assert "a card is a .yaml file, not .py" in refused(put(tmp_path, card="_base_: evil.py\n"))
    assert not (tmp_path / "ran").exists()


def test_custom_imports_import_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, card="custom_imports: {imports: [this_module_does_not_exist], allow_failed_imports: false}\n")
    with pytest.raises(UserError, match="there is no key named 'custom_imports'"):
        parse(cards.ProtocolCard, {**PROTOCOL, **read_yaml(path)}, where=path)


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
        ("a: '{{ fileDirname }}'\n", "'{{' would be substituted"),
        ("a: '{{$HOME:x}}'\n", "'{{' would be substituted"),
        ("_deprecation_: {expected: x}\n", "the key '_deprecation_' begins with an underscore"),
        ("_base_: []\ntext: x\n", "text is reserved for config file"),
        ("a: " + "[" * 60 + "]" * 60, "nested over 40 levels deep"),
        ("a: " + "[" * 100_000, "not plain YAML: .*nesting"),
        ("a: [1\n", "not plain YAML"),
        ("a: 1\n---\nb: 2\n", "not plain YAML: .*single document"),
        ("a: \x07\n", "not plain YAML"),
        ("- a\n", "a card is a mapping of names to values, this is a list"),
        ("", "a card is a mapping of names to values, this is a NoneType"),
        ("_base_: 3\n", "_base_ = 3"),
        ("_base_:\n", "_base_ = None"),
        ("_base_: 'mmseg::fcn/fcn_r50.yaml'\n", "_base_ = 'mmseg::"),
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
    assert "Duplicate key" in refused(put(tmp_path, card="_base_: [b.yaml, c.yaml]\n", b="a: 1\n", c="a: 2\n"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    assert "not UTF-8 text" in refused(path)


def test_a_folder_is_not_a_card(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").mkdir()
    assert "Is a directory" in refused(tmp_path / "card.yaml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(alphabet=st.characters(codec="ascii", exclude_characters="{")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="abc", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=8,
)


DATA = st.dictionaries(st.text(alphabet="xyz", min_size=1, max_size=4), json_values, max_size=4)


@settings(deadline=None, max_examples=50)
@given(DATA)
def test_a_card_without_a_base_is_what_mmengine_reads(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert read_yaml(path) == Config.fromfile(path).to_dict()


@given(DATA)
def test_whatever_plain_data_pyyaml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert read_yaml(path) == data


# Overrides


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a=2", {"a": 2, "b": {"c": [1, 2]}}),
        ("b.c=[3]", {"a": 1, "b": {"c": [3]}}),
        ("b.c.1=x", {"a": 1, "b": {"c": [1, "x"]}}),
        ("b.d.e=1e-3", {"a": 1, "b": {"c": [1, 2], "d": {"e": "1e-3"}}}),
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
        ("a=!!python/object/apply:os.system [ls]", "the value is not YAML"),
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


# Checking


def test_a_complete_card_is_read() -> None:
    assert parse(cards.ProtocolCard, PROTOCOL, where="p.yaml").image.short_side == 224


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "p.yaml: there is no key named 'titel'. Did you mean 'title'?"),
        ({"image": {"short_side": 224, "shortside": 1}}, "there is no key named 'image.shortside'. Did you mean 'image.short_side'"),
        ({"image": {"short_side": -1}}, "p.yaml: image.short_side = -1: input should be greater than 0"),
        ({"image": {"short_side": "many"}}, 'image.short_side = "many": input should be a valid integer'),
        ({"image": {"short_side": 1, "interpolation": "x"}}, "image.interpolation = \"x\": input should be 'bilinear' or 'bicubic'"),
        ({"selection": {"fraction": 1.0}}, "selection.fraction = 1.0: input should be less than 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(cards.ProtocolCard, {**PROTOCOL, **change}, where="p.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize("key", sorted(PROTOCOL))
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(UserError, match=f"p.yaml: {key} is missing"):
        parse(cards.ProtocolCard, {k: v for k, v in PROTOCOL.items() if k != key}, where="p.yaml")


def test_a_misspelled_key_is_named_before_the_key_that_is_then_missing() -> None:
    wrong = {("titel" if key == "title" else key): value for key, value in PROTOCOL.items()}
    with pytest.raises(UserError, match=r"p.yaml: there is no key named 'titel'\. Did you mean 'title'"):
        parse(cards.ProtocolCard, wrong, where="p.yaml")


def test_a_card_does_not_change_after_reading() -> None:
    card = parse(cards.ProtocolCard, PROTOCOL, where="p.yaml")
    with pytest.raises(ValueError, match="frozen"):
        card.title = "another"


def test_a_card_whose_name_is_not_its_files_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, q=yaml.safe_dump(PROTOCOL))
    with pytest.raises(UserError, match=r"name = 'p', but the file is q\.yaml"):
        load_card("protocol", str(path))


def test_overrides_reach_the_card_and_change_its_hash(tmp_path: Path) -> None:
    path = str(put(tmp_path, p=yaml.safe_dump(PROTOCOL)))
    plain, changed = load_card("protocol", path), load_card("protocol", path, ["image.short_side=448"])
    assert changed.image.short_side == 448
    assert card_hash(plain) != card_hash(changed)


def test_the_hash_is_of_the_content_and_not_of_the_layout(tmp_path: Path) -> None:
    path = put(tmp_path, p=json.dumps(dict(reversed(PROTOCOL.items()))))
    assert card_hash(load_card("protocol", str(path))) == card_hash(parse(cards.ProtocolCard, PROTOCOL, where="p"))


# The shipped cards

SHIPPED = [(kind, name) for kind in catalog.KINDS for name in catalog.card_files(kind)]


def shipped(kind: str) -> list[Any]:
    return [load_card(kind, name) for k, name in SHIPPED if k == kind]  # type: ignore[arg-type]


def test_there_are_cards_of_every_kind() -> None:
    assert {kind for kind, _ in SHIPPED} == {"task", "protocol", "model"}


@pytest.mark.parametrize(("kind", "name"), SHIPPED, ids=[f"{kind}-{name}" for kind, name in SHIPPED])
def test_every_shipped_card_reads(kind: Any, name: str) -> None:
    assert load_card(kind, name).name == name


def test_tasks_name_readers_protocols_and_families_that_exist() -> None:
    for card in shipped("task"):
        assert card.data.reader in registry.READERS.names(), card.name
        assert card.family in registry.FAMILIES.names(), card.name
        assert card.protocol in card.protocols, card.name
        for name in card.protocols:
            assert card.family in load_card("protocol", name).families, (card.name, name)


def test_protocols_name_probes_that_exist() -> None:
    # the families whose adapter takes any probe of a registry
    known = {"segmentation": registry.PROBES, "point-segmentation": registry.PROBES}
    known |= {"depth": registry.PIXEL_PROBES, "normals": registry.PIXEL_PROBES}
    for card in shipped("protocol"):
        for family in known.keys() & set(card.families):
            assert card.probe.get("type") in known[family].names(), (card.name, family)


def test_models_name_sources_that_exist() -> None:
    for card in shipped("model"):
        assert card.source in registry.ENCODERS.names(), card.name


def test_downloads_come_over_https_or_with_a_checksum() -> None:
    files = [file for card in shipped("task") for file in card.data.download]
    files += [w for card in shipped("model") for w in (card.weights, card.text_weights, card.tokenizer) if w and w.url]
    open_to_change = [file.url for file in files if not file.url.startswith("https://") and not (file.sha256 or getattr(file, "md5", None))]
    assert not open_to_change


def test_a_users_card_folder_is_read_beside_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks" / "protocols").mkdir(parents=True)
    put(tmp_path / "tasks" / "protocols", p=yaml.safe_dump(PROTOCOL))
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path) + os.pathsep)
    assert load_card("protocol", "p").title == "A protocol"
