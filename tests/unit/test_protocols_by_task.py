"""Values of a protocol for single tasks, and fields that are not dumped while they are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tips_bench.cards import FeatureCard, ImageCard, ProtocolCard, load_card, parse
from tips_bench.errors import UserError
from tips_bench.results.protocol_hash import protocol_hash

CARD: dict[str, Any] = {
    "name": "p", "version": 1, "title": "P", "families": ["zeroshot-segmentation"], "source": "x", "image": {"short_side": 336},
    "probe": {"type": "text", "logit_scale": 40.0},
    "by_task": {"t": {"image": {"short_side": 560}, "probe": {"logit_scale": 50.0}}},
}  # fmt: skip


def test_values_of_a_task_lie_over_the_cards_own_and_leave_other_tasks_alone() -> None:
    card = parse(ProtocolCard, CARD, where="p")
    named, other = card.for_task("t"), card.for_task("u")
    assert (named.image.short_side, named.probe["logit_scale"]) == (560, 50.0)
    assert (other.image.short_side, other.probe["logit_scale"]) == (336, 40.0)
    assert named.by_task == other.by_task == {} and "by_task" not in named.model_dump(mode="json")
    plain = parse(ProtocolCard, {key: value for key, value in CARD.items() if key != "by_task"}, where="p")
    hashes = [protocol_hash(one.model_dump(mode="json")) for one in (other, plain, named, card)]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


def test_a_value_of_a_task_that_does_not_fit_is_found_when_the_card_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(CARD | {"by_task": {"t": {"image": {"short_sid": 560}}}}))
    with pytest.raises(UserError, match=r"by_task\.t.*image\.short_sid") as error:
        load_card("protocol", str(path))
    assert "\n" not in str(error.value)
    path.write_text(yaml.safe_dump(CARD | {"by_task": {"t": {"title": {}}}}))
    with pytest.raises(UserError, match="by_task"):
        load_card("protocol", str(path))


def test_a_field_that_is_newer_than_records_is_dumped_only_where_it_is_used() -> None:
    assert "normalize" not in ImageCard(short_side=1).model_dump()
    assert ImageCard(short_side=1, normalize="imagenet").model_dump()["normalize"] == "imagenet"
    used = FeatureCard(values=True, attention="sclip", positions="dino")
    assert parse(FeatureCard, used.model_dump(mode="json"), where="x") == used


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"attention": "sclip"}, "attention sclip needs values: true"),
        ({"values": True, "positions": "dino"}, "positions dino needs another attention than itself"),
        ({"values": True, "network": "mmseg"}, "network mmseg needs another attention than itself"),
        ({"values": True, "keys": True}, "keys True needs another attention than itself"),
        ({"values": True, "attention": "proxyclip"}, "attention proxyclip and proxy go together"),
        ({"values": True, "proxy": {"model": "dino-b8", "beta": 1.2, "gamma": 3.0}}, "attention proxyclip and proxy go together"),
    ],
)
def test_features_that_contradict_each_other_are_one_sentence(features: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(FeatureCard, features, where="x")


def test_a_long_side_needs_mmcvs_resizing() -> None:
    with pytest.raises(UserError, match="long_side needs library mmcv"):
        parse(ImageCard, {"short_side": 336, "long_side": 2048, "library": "torchvision"}, where="x")
