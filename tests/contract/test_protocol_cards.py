"""Every shipped protocol says what it does differently from its source, and saying so changes neither hashes nor comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tips_bench.cards import ProtocolCard, list_cards, load_card
from tips_bench.catalog import shipped
from tips_bench.files import digest
from tips_bench.results.counts import card_differences

OWN = "tips-bench's own"
NAMES = sorted(path.stem for path in (shipped("tasks") / "protocols").glob("*.yaml"))
# published protocols without a deviation -> the test that holds them to their source
HELD_BY: dict[str, str] = {"dino-txt": "tests/parity/test_dinotxt.py", "dino-txt-head": "tests/parity/test_dinotxt.py"}
# the first half of each hash; records hold the whole, so a change here takes records off their boards
HASHES = {
    "classifier-112": "e80a1d0c0f89780b",
    "classifier-dinov2": "d77e16c1e85c5e62",
    "convex": "6b447c038df6f6cd",
    "convex-224": "c01eed641fbf501c",
    "convex-classifier": "b990c5a7573f0cc4",
    "convex-classifier-112": "4fe6c7a6c439d910",
    "convex-depth": "30609d268e6dd499",
    "convex-depth-224": "ed0ef04f99832bcd",
    "convex-normals": "3b254e1a03b89ecf",
    "convex-normals-224": "7b1538132edbdf5d",
    "convex-points": "64544c15a2ee54d5",
    "dino-txt": "5440980ea405cebf",
    "dino-txt-head": "aad6d82e0ffe2a0f",
    "dpt-224": "d596d84e34fdbfa9",
    "dpt-official": "e5347486717cc9b3",
    "dpt-probe3d": "dea01cab2a7c723c",
    "dpt-tips": "b9ee6f6ffe823a40",
    "instances-112": "53337a553591b45e",
    "knn-112": "a09cf02e5fdba785",
    "knn-20": "ff49bef2c9ec4494",
    "knn-dinov2": "3d9e5a293d2b54e1",
    "linear-dinov2": "ce9357e6c64be44a",
    "linear-dinov2-depth-224": "dd0b50e1eb194b5f",
    "linear-dinov2-kitti": "b800cb7dd198c915",
    "linear-dinov2-kitti-4": "7fb84a7ba78dc055",
    "linear-dinov2-ms": "b8b42406bb575734",
    "linear-dinov2-nyu": "50dbe3502878dba0",
    "linear-dinov2-nyu-4": "6a150aeb8edc37bf",
    "linear-dinov3": "3f0168da41c71d76",
    "linear-dinov3-nyu": "73113afbc5ac09f6",
    "linear-lexicon3d": "eb64f35a3cbc4aac",
    "linear-tips": "23a1ce82de480460",
    "linear-tips-nyu": "532d84e941d9d09c",
    "maskclip": "e7b80bac5e6d1880",
    "maskclip-any": "802908a03fbe3f36",
    "maskclip-refined": "a9e33a0aba48ed18",
    "patch-text": "46cdc6f9872e0d76",
    "retrieval-224": "159a5dfc9c961c1a",
    "retrieval-224-both": "e25f3a63099b6395",
    "retrieval-clip": "2c55d913208825ea",
    "retrieval-squash": "55f271370e4a313c",
    "retrieval-tips": "f4c11f7e607928ce",
    "retrieval-tips-both": "dae8ad74b9937716",
    "tcl-slide": "9e5708a93736b5ce",
    "tips-slide": "717d73cf83719f17",
    "tips-slide-84": "cf90cc9594b6e8bf",
    "tips-values": "69caa814070b0005",
    "tips-values-224": "14e3dc8ba45aa0d9",
    "uned": "2745951339f7de6e",
    "uned-separate": "f1ff0dcf688b478e",
    "zeroshot-112": "0c0280513511c65e",
    "zeroshot-openai80": "5fe04b49edc37a40",
    "zeroshot-openai80-squash": "9c5016b9130dd4e0",
}


def card(name: str) -> ProtocolCard:
    return load_card("protocol", name)


def hash_of(protocol: ProtocolCard) -> str:
    return digest(json.dumps(protocol.model_dump(mode="json"), sort_keys=True))


def test_the_hashes_of_all_protocols_stay() -> None:
    assert {name: hash_of(card(name))[:16] for name in NAMES} == HASHES


@pytest.mark.parametrize("name", NAMES)
def test_a_deviation_changes_no_hash_and_makes_no_difference_between_cards(name: str) -> None:
    said = card(name)
    silent = said.model_copy(update={"deviations_from_source": []})
    assert hash_of(said) == hash_of(silent)
    assert card_differences(said.model_dump(mode="json"), silent.model_dump(mode="json"), "A", "B") == []
    assert "deviations_from_source" not in said.model_dump(mode="json")


@pytest.mark.parametrize("name", NAMES)
def test_a_published_protocol_names_its_deviations_or_the_test_that_finds_none(name: str) -> None:
    protocol = card(name)
    if protocol.source == OWN:
        assert protocol.deviations_from_source == [], "a protocol of our own has no source to deviate from"
    elif name in HELD_BY:
        assert (Path(__file__).parents[2] / HELD_BY[name]).is_file()
        assert protocol.deviations_from_source == []
    else:
        assert protocol.deviations_from_source, "say what differs, or name the test that finds no difference"


@pytest.mark.parametrize("name", NAMES)
def test_a_deviation_names_tasks_that_allow_the_protocol(name: str) -> None:
    allowed = {task.name for task in list_cards("task")[0] if name in task.protocols}
    for one in card(name).deviations_from_source:
        assert one.tasks == [] or set(one.tasks) & allowed, one.source_does
        assert len(set(one.tasks)) == len(one.tasks)


@pytest.mark.parametrize("name", NAMES)
def test_a_deviation_says_whether_its_effect_was_measured(name: str) -> None:
    words = ("measured", "Measured", "estimate", "None", "comparable", "reported")
    for one in card(name).deviations_from_source:
        assert any(word in one.effect for word in words), one.effect
