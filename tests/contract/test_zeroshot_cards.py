"""The zero-shot cards: class names against the label ids of their readers, and protocols that their families can read."""

from __future__ import annotations

import hashlib

import pytest

from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter, check_names
from tips_bench.cards import ProtocolCard, TaskCard, list_cards, load_card, override, parse
from tips_bench.data.segmentation import LAYOUTS
from tips_bench.errors import UserError
from tips_bench.openmmlab import import_mmseg
from tips_bench.rooms.drawing.classes import NAMES

TASKS = [card.name for card in list_cards("task")[0] if card.family == "zeroshot-segmentation"]
SIZES = {"ade150": 150, "pc59": 59, "pc60": 60, "voc20": 20, "voc21": 21, "cocostuff": 171, "cityscapes": 19, "coco-object": 81}
# TCL's prompts as google-deepmind/tips lists them, which MaskCLIP's 85 do not all hold
TCL = 9
OPENAI = ("sclip", "naclip", "clearclip", "proxyclip", "dino-txt", "dino-txt-head")
# vocabulary -> set -> the first half of the SHA-256 of its file in the source's repository (configs/cls_*.txt of wangf3014/SCLIP b56bd30,
# mc-lan/ClearCLIP ad68a40, mc-lan/ProxyCLIP e7b767f): a line a class, its names joined by "; "
VOCABULARIES = {
    "sclip": {
        "ade150": "e53ded02c488bdb9", "cityscapes": "6f6782fc1bf92bfd", "coco-object": "cfcc0eab9854dab6", "cocostuff": "fb98709b9ab1baff",
        "pc59": "cd808465f06a1616", "pc60": "e29ff1a0eaea71eb", "voc20": "07866c1c093973bf", "voc21": "afe97de53ac9aaa4",
    },
    "clearclip": {"coco-object": "1f17b53017e44225", "voc20": "6b9a85ffb907e34a", "voc21": "265d9ede93be451d"},
    "proxyclip": {"coco-object": "87b6d3e1d3adf520", "voc21": "6a194e9134d44459"},
}  # fmt: skip


def labels(card: TaskCard) -> list[str]:
    """The reader's classes in the order of the label ids, from mmsegmentation or from the generator."""
    if card.data.generator:
        return list(NAMES)
    layout = LAYOUTS[card.data.reader]
    classes = list(getattr(import_mmseg().datasets, layout.dataset).METAINFO["classes"])
    if layout.things is not None:
        return ["background", *classes[: layout.things]]
    return classes[1:] if layout.drop_background else classes


def test_every_set_of_the_papers_has_its_task() -> None:
    assert {f"zeroshot-{name}" for name in SIZES} | {"rooms-zeroshot"} <= set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_names_are_the_classes_in_the_order_of_the_label_ids(name: str) -> None:
    card = load_card("task", name)
    adapter = ZeroShotAdapter(card, load_card("protocol", card.protocol))
    found = labels(card)
    check_names(list(adapter.classes.names), found, where=name)
    assert len(found) == SIZES.get(name.removeprefix("zeroshot-"), 42)
    assert (adapter.classes.background is not None) == (found[0] == "background")
    with pytest.raises(UserError, match=f"options.names has {len(found)} classes, and the labels have {len(found) - 1}"):
        check_names(list(adapter.classes.names), found[:-1], where=name)
    with pytest.raises(UserError, match=f"as class 1, and label id 1 means {found[2]!r}"):
        check_names(list(adapter.classes.names), [found[0], found[2], found[1], *found[3:]], where=name)


@pytest.mark.parametrize("name", TASKS)
def test_every_protocol_of_a_task_can_be_built(name: str) -> None:
    card = load_card("task", name)
    for protocol in card.protocols:
        adapter = ZeroShotAdapter(card, load_card("protocol", protocol).for_task(name))
        prompts = adapter.options.prompts
        assert prompts == "openai-80" if protocol in OPENAI else len(prompts) == (85 if protocol.startswith("maskclip") else TCL)


def test_vocabularies_are_the_sources_files() -> None:
    found: dict[str, dict[str, str]] = {}
    for name in TASKS:
        task = load_card("task", name)
        classes = ZeroShotAdapter(task, load_card("protocol", task.protocol)).classes
        for whose in classes.vocabularies:
            text = "\n".join("; ".join(names) for names in classes.spoken(whose))
            found.setdefault(whose, {})[name.removeprefix("zeroshot-")] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == VOCABULARIES


def test_values_by_task_are_for_tasks_that_allow_the_protocol() -> None:
    for protocol in list_cards("protocol")[0]:
        for name in protocol.by_task:
            assert protocol.name in load_card("task", name).protocols, (protocol.name, name)


@pytest.mark.parametrize(
    ("names", "background", "words"),
    [
        ({"a": []}, None, "the class 'a' has no name"),
        ({"a": ["cat", " "]}, None, "the class 'a' has no name"),
        ({"a": "cat", "b": ["dog", "cat"]}, None, "the name 'cat' is given to 'a' and to 'b'"),
        ({"a": ["cat", "cat"]}, None, "the name 'cat' is given to 'a' and to 'a'"),
        ({"a": "cat"}, "b", "background = 'b' is none of the names' classes"),
        ("cat", None, "options.names"),
    ],
)
def test_wrong_names_are_one_sentence(names: object, background: str | None, words: str) -> None:
    card = load_card("task", "zeroshot-voc20").model_dump(mode="json")
    card["options"] = {"names": names, "background": background}
    with pytest.raises(UserError, match=words) as error:
        ZeroShotAdapter(parse(TaskCard, card, where="x"), load_card("protocol", "tips-values"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["probe.smooth=1.0"], "probe.smooth and features.keys go together"),
        (["probe.absent=0.5", "inference={mode: slide, window: 224, stride: 112}"], "do not work with sliding windows"),
    ],
)
def test_what_maskclip_does_to_an_image_needs_keys_and_the_whole_image(change: list[str], words: str) -> None:
    protocol = parse(ProtocolCard, override(load_card("protocol", "maskclip").model_dump(mode="json"), change), where="x")
    with pytest.raises(UserError, match=words) as error:
        ZeroShotAdapter(load_card("task", "zeroshot-voc20"), protocol)
    assert "\n" not in str(error.value)
