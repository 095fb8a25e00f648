"""The zero-shot cards: class names against the label ids of their readers, and protocols that their families can read."""

from __future__ import annotations

import pytest

from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter, check_names
from tips_bench.cards import TaskCard, list_cards, load_card, parse
from tips_bench.data.segmentation import LAYOUTS
from tips_bench.errors import UserError
from tips_bench.openmmlab import import_mmseg
from tips_bench.rooms.drawing.classes import NAMES

TASKS = [card.name for card in list_cards("task")[0] if card.family == "zeroshot-segmentation"]
SIZES = {"ade150": 150, "pc59": 59, "pc60": 60, "voc20": 20, "voc21": 21, "cocostuff": 171, "cityscapes": 19}
# TCL's prompts as google-deepmind/tips lists them, which MaskCLIP's 85 do not all hold
TCL = 9


def labels(card: TaskCard) -> list[str]:
    """The reader's classes in the order of the label ids, from mmsegmentation or from the generator."""
    if card.data.generator:
        return list(NAMES)
    layout = LAYOUTS[card.data.reader]
    classes = list(getattr(import_mmseg().datasets, layout.dataset).METAINFO["classes"])
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
        adapter = ZeroShotAdapter(card, load_card("protocol", protocol))
        assert len(adapter.options.prompts) == (85 if protocol == "maskclip" else TCL)


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
