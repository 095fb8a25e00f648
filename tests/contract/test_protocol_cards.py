"""Every shipped protocol says what it does differently from its source, and saying so changes neither hashes nor comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.card_pages import HELD
from tips_bench.cards import ProtocolCard, list_cards, load_card
from tips_bench.catalog import shipped
from tips_bench.results.counts import card_differences
from tips_bench.results.protocol_hash import protocol_hash

OWN = "tips-bench's own"
NAMES = sorted(path.stem for path in (shipped("tasks") / "protocols").glob("*.yaml"))
# protocols that no difference from their source is known of: what the source's own code computed holds them to that
EQUAL = {"dino-txt": "tests/parity/test_dinotxt.py", "dino-txt-head": "tests/parity/test_dinotxt.py"}
# the first half of each hash; records hold the whole, so a change here takes records off their boards
HASHES = {
    "amstertime": "e525d9d9ec4d0b2f",
    "amstertime-dinov3": "13deb3990c39070d",
    "classifier-112": "5d2d2a6ae990d072",
    "classifier-dinov2": "9bf480d509c92ac7",
    "clearclip": "f8e418879c60a1d2",
    "convex": "cebad4ed241b03d1",
    "convex-224": "6031a1c0cf470127",
    "convex-classifier": "9483a675b14b40b8",
    "convex-classifier-112": "5b80fdd9a2d29089",
    "convex-depth": "b3bd7994c3d825d8",
    "convex-depth-224": "381b5065b5c2141e",
    "convex-normals": "59134c582272dc56",
    "convex-normals-224": "25c2ee722c8f75c6",
    "convex-points": "1da0a76058f5e148",
    "dino-retrieval": "df508bfbd1966acd",
    "dino-retrieval-multiscale": "fe3a3cdb206de998",
    "dino-txt": "8d728fad510d6011",
    "dino-txt-head": "6f0b11a559cad32a",
    "dinov3-retrieval": "a8cb833f82e32418",
    "dpt-224": "0bf5f623cf8d91ba",
    "dpt-official": "506a03093059b919",
    "dpt-probe3d": "c9e5f7612fcfe711",
    "dpt-probe3d-a1f1464": "49aa25db18e3ae6c",
    "dpt-probe3d-navi": "364e5e6942506ca8",
    "dpt-probe3d-navi-a1f1464": "15fa6e3b5b34719d",
    "dpt-tips": "a6bb7d0fb28b7069",
    "gldv2": "b07424c29e08ce93",
    "gldv2-112": "7bc1a428782964aa",
    "hummingbird": "2b841b2504153bf2",
    "hummingbird-100k": "c2b78353360ab8f6",
    "hummingbird-1m": "edef8c7a1639a58a",
    "hummingbird-224": "f45b72e8af4d0470",
    "hummingbird-depth": "2b31ee7c3805b397",
    "hummingbird-depth-224": "e4be8bab63fc1275",
    "hummingbird-dip": "1a207ab91a0286d9",
    "hummingbird-hb": "cc0277ba57866ce1",
    "instances-112": "dda6a6b6647d0f0c",
    "keypoints-224": "994c6fb3ce1ad6eb",
    "kmeans": "854619240db49b9d",
    "kmeans-224": "e61c2518b3f9863a",
    "kmeans-500": "d1dc1a096b8f7fb8",
    "knn-112": "e5062ad11c074950",
    "knn-20": "30c9f8bcc8f51782",
    "knn-capi": "287f825e4d08c186",
    "knn-dinov2": "24d912c184648257",
    "landmarks-112": "64e9e0f6188dd939",
    "linear-dinov2": "9f3ea95cf3ac5f05",
    "linear-dinov2-depth-224": "f1b433dee0e5aa13",
    "linear-dinov2-kitti": "da2206155c61d46b",
    "linear-dinov2-kitti-4": "92b1aa9aed704c2b",
    "linear-dinov2-ms": "338380a9a965f31a",
    "linear-dinov2-nyu": "b0b5cf535f1221e1",
    "linear-dinov2-nyu-4": "236874d994d7caa2",
    "linear-dinov3": "4992c6c188d28408",
    "linear-dinov3-kitti": "6e6af3e615821c3d",
    "linear-dinov3-nyu": "4818c7351e116349",
    "linear-lexicon3d": "b9bd1575890d3b82",
    "linear-tips": "2483c221a13522c6",
    "linear-tips-nyu": "3f182090d08fcf7a",
    "lost": "56b528a8ead210d5",
    "lost-patches": "3d40d7169559c1fb",
    "maskclip": "13281e61f94d0830",
    "maskclip-any": "365776fbdc23b100",
    "maskclip-refined": "af0c39e99665164f",
    "met-dinov3": "3334910d5a555a3a",
    "met-nearest": "8e9e8b2352392d3c",
    "met-whitened": "5a78e8c20b163346",
    "naclip": "dc80379dc3a9f8af",
    "patch-text": "c5661818505aee79",
    "proxyclip": "6d01cb84468516ed",
    "retrieval-224": "f65b53fd51e12dd3",
    "retrieval-224-both": "a2080fab6f55e099",
    "retrieval-clip": "ab505b1010cc04f0",
    "retrieval-own": "4db6d66a7c84afe5",
    "retrieval-squash": "cd0fa767b8a3dd2b",
    "retrieval-tips": "9f197ba150ca6287",
    "retrieval-tips-both": "952744bfa5809685",
    "roxford": "ba921d9d062e6102",
    "roxford-whole": "ae1063c38716136f",
    "sclip": "58c49e2ade43c24c",
    "spair-dift": "f5a268be3b0ead99",
    "spair-dinov3": "19ecdf86744d2c44",
    "spair-geoaware": "44fc9c6e797611c2",
    "spair-geoaware-window": "6f4c847ca0c3d320",
    "spair-insid3": "40d8e7f3905d3107",
    "spair-insid3-debiased": "09c58af8714b4ccb",
    "spair-probe3d": "8cb0f74617a8a9a2",
    "tcl-slide": "92eeb558081f8e0c",
    "then-now-112": "d5375291168cc134",
    "tips-slide": "6a7c2eb9a0ce0880",
    "tips-slide-84": "f370bb3e0314281d",
    "tips-values": "d58457fdbf50be2b",
    "tips-values-224": "2d22fd2f51bcd595",
    "tokencut": "4e20bf391a411512",
    "tokencut-dinov3": "58117b302e7bd9c4",
    "uned": "4fbe3073d4cbc1fd",
    "uned-separate": "6eae5eb0334b4d6c",
    "video-224": "18579d56bfc81159",
    "video-dino": "4fdbd850da967da6",
    "video-dinov3-notebook": "39e131db1e6d9087",
    "video-dinov3-paper": "6d60e4531c2c07ff",
    "video-vjepa21": "d8213de0522764e9",
    "views-224": "48afcac22159fd1a",
    "views-224-mutual": "41b0b9dca9bb3aaf",
    "views-dinov3-navi": "df5c2df6b92d18e7",
    "views-probe3d-navi": "43ff43fa5e1224e4",
    "views-probe3d-scannet": "f12e9191d8289483",
    "zeroshot-112": "ee59d79c7e651d15",
    "zeroshot-bigvision": "173da5ddada995a7",
    "zeroshot-openai80": "fabe77ced3c5b979",
    "zeroshot-openai80-squash": "95e04e72f98ab033",
    "zeroshot-own": "b5ca825db526529c",
}


def card(name: str) -> ProtocolCard:
    return load_card("protocol", name)


def hash_of(protocol: ProtocolCard) -> str:
    return protocol_hash(protocol.model_dump(mode="json"))


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
    elif name in EQUAL:
        assert name in HELD[EQUAL[name]] and protocol.deviations_from_source == []
    else:
        assert protocol.deviations_from_source, "say what differs, or name the test that finds no difference"


def test_every_published_protocol_is_compared_with_its_source_by_tests_that_exist() -> None:
    assert all((Path(__file__).parents[2] / path).is_file() for path in HELD)
    assert {name for held in HELD.values() for name in held} == {name for name in NAMES if card(name).source != OWN}


@pytest.mark.parametrize("name", NAMES)
def test_a_deviation_names_tasks_that_allow_the_protocol(name: str) -> None:
    allowed = {task.name for task in list_cards("task")[0] if name in task.protocols}
    for one in card(name).deviations_from_source:
        assert one.tasks == [] or set(one.tasks) & allowed, one.source_does
        assert len(set(one.tasks)) == len(one.tasks)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_that_the_source_has_no_number_for_are_named_as_an_extension(name: str) -> None:
    protocol = card(name)
    assert set(protocol.published_for or []) <= {task.name for task in list_cards("task")[0] if name in task.protocols}
    assert protocol.source != OWN or protocol.published_for is None
    named = {task for one in protocol.deviations_from_source if "extension by tips-bench" in one.we_do for task in one.tasks}
    assert all(protocol.extends_to(task) for task in named) or protocol.published_for is None


@pytest.mark.parametrize("name", NAMES)
def test_a_deviation_says_whether_its_effect_was_measured(name: str) -> None:
    words = ("measured", "Measured", "estimate", "None", "comparable", "reported")
    for one in card(name).deviations_from_source:
        assert any(word in one.effect for word in words), one.effect
