"""Cards: what they hold, the sentence for each mistake, and the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tips_bench import cards, catalog, registry
from tips_bench.cards import ProtocolCard, load_card, parse
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


def test_an_unknown_key_is_named_before_the_one_that_it_should_have_been() -> None:
    misspelt = {"protocl" if key == "name" else key: value for key, value in PROTOCOL.items()} | {"image": {"shrt_side": 224}}
    with pytest.raises(UserError, match=r"there is no key named 'image\.shrt_side'\. Did you mean 'image\.short_side'"):
        parse(cards.ProtocolCard, misspelt, where="p.yaml")


@pytest.mark.parametrize("key", sorted(PROTOCOL))
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(UserError, match=f"p.yaml: {key} is missing"):
        parse(cards.ProtocolCard, {k: v for k, v in PROTOCOL.items() if k != key}, where="p.yaml")


TASK: dict[str, Any] = {
    **{"name": "t", "family": "segmentation", "title": "A task", "version": 1, "protocol": "p", "protocols": ["p"], "primary": "mIoU"},
    **dict.fromkeys(("license", "citation", "homepage", "how_to_get"), "none"),
    "data": {"reader": "folder", "root": "mine", "splits": {"train": "train", "test": "val"}},
}


def task(**changed: Any) -> cards.TaskCard:
    return parse(cards.TaskCard, {**TASK, "data": {**TASK["data"], **changed}}, where="t.yaml")


OUTSIDE = ["..", "../x", "a/../../x", "/etc", "//x", "a\\..\\x", "c:/x", "", "a\0b", "a\nb"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("where", ["root", "splits.test", "download.0.unpack_to"])
def test_a_card_names_no_path_outside_its_folder(where: str, path: str) -> None:
    parts = {"root": path, "splits": {"test": path}, "download": [{"url": "https://example.org/x.zip", "unpack_to": path}]}
    key = where.partition(".")[0]
    with pytest.raises(UserError, match=rf"t\.yaml: data\.{where} = .*a path inside its folder"):
        task(**{key: parts[key]})


@pytest.mark.parametrize("path", ["x" * 256, "ä" * 128, "a/" * 600])
def test_a_card_names_no_path_that_no_file_system_takes(path: str) -> None:
    with pytest.raises(UserError, match=r"t\.yaml: data\.root = .*a path of at most"):
        task(root=path)


@pytest.mark.parametrize("path", [".", "a", "a/b-c/d.e", "a..b", "~x", "VOCdevkit/VOC2012", "späte Bilder"])
def test_paths_inside_their_folder_are_taken(path: str) -> None:
    assert task(root=path, splits={"test": path}).data.root == path


@pytest.mark.parametrize("file", ["...yaml", "-x.yaml", "_x.yaml", "a b.yaml", f"{'x' * 101}.yaml"])
def test_a_file_whose_name_is_no_name_for_a_card_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("name: x\n")
    with pytest.raises(UserError, match="is no name for a card"):
        load_card("task", str(tmp_path / file))


def test_a_task_is_not_scored_on_what_it_was_fitted_on() -> None:
    with pytest.raises(UserError, match=r"t\.yaml: data: splits\.train and splits\.test are both 'val'"):
        task(splits={"train": "val", "test": "val"})
    with pytest.raises(UserError, match=r"splits\.test is missing"):
        task(splits={"train": "val"})


def test_a_split_that_a_card_does_not_name_is_a_sentence() -> None:
    only = task(splits={"test": "val"}).data
    assert only.split("test") == "val"
    with pytest.raises(UserError, match="the data have no train split, and the protocol needs one"):
        only.split("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "ade20k", "train": 1, "val": 1, "root": "/tmp"}, "there is no option 'root'"),
        ({"layout": "ade20k", "train": 1}, "should hold a layout, and train and val"),
        ({"layout": "ade20k", "train": True, "val": 1}, "should hold a layout, and train and val"),
        ({"layout": ["ade20k"], "train": 1, "val": 1}, "should hold a layout, and train and val"),
        ({}, "generator and generator_options go together"),
    ],
)
def test_options_that_the_generator_does_not_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(generator="rooms", generator_options=options)


def test_a_broken_card_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks" / "protocols").mkdir(parents=True)
    put(tmp_path / "tasks" / "protocols", p=yaml.safe_dump(PROTOCOL), q="name: q\n", r="[\n")
    (tmp_path / "tasks" / "protocols" / ".#p.yaml").write_text("an editor's")
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    read, faults = cards.list_cards("protocol")
    assert {card.name for card in read} == {"p", *(name for kind, name in SHIPPED if kind == "protocol")}
    assert [Path(str(fault.where)).name for fault in faults] == ["q.yaml", "r.yaml"]


def test_a_card_does_not_change_after_reading() -> None:
    card = parse(cards.ProtocolCard, PROTOCOL, where="p.yaml")
    with pytest.raises(ValueError, match="frozen"):
        card.title = "another"


def test_a_card_whose_name_is_not_its_files_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, q=yaml.safe_dump(PROTOCOL))
    with pytest.raises(UserError, match=r"name = 'p', but the file is q\.yaml"):
        load_card("protocol", str(path))


def test_overrides_reach_the_card(tmp_path: Path) -> None:
    path = str(put(tmp_path, p=yaml.safe_dump(PROTOCOL)))
    plain, changed = load_card("protocol", path), load_card("protocol", path, ["image.short_side=448"])
    assert (plain.image.short_side, changed.image.short_side) == (224, 448)


# The shipped cards

SHIPPED = [(kind, name) for kind in cards.CARDS for name in catalog.card_files(kind)]


def shipped(kind: str) -> list[Any]:
    return [load_card(kind, name) for k, name in SHIPPED if k == kind]  # type: ignore[arg-type]


def test_there_are_cards_of_every_kind() -> None:
    assert {kind for kind, _ in SHIPPED} == {"task", "protocol", "model", "prompt"}


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


def test_a_deviation_from_the_source_is_whole_or_an_error() -> None:
    data = load_card("protocol", "linear-dinov3").model_dump(mode="json")
    with pytest.raises(UserError, match=r"deviations_from_source\.0\.where is missing"):
        parse(ProtocolCard, data | {"deviations_from_source": [{"source_does": "a"}]}, where="x.yaml")
