"""Every model card of the zoo against the package or architecture it names."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from tips_bench.cards import ModelCard, list_cards
from tips_bench.catalog import shipped
from tips_bench.encoders import resolve_model_card
from tips_bench.registry import ENCODERS

CARDS: dict[str, ModelCard] = {path.stem: resolve_model_card(path.stem) for path in shipped("model_zoo").glob("*.yaml")}
OFFICIAL = [f"tips-{size}" for size in ("s14", "b14", "l14", "so400m14", "g14", "g14-lr")]
OFFICIAL += [f"tipsv2-{size}" for size in ("b14", "l14", "so400m14", "g14")]

# Parameters of the image towers in millions, as google-deepmind/tips' README states them.
PUBLISHED_MILLIONS = {
    "tips-s14": "21.6",
    "tips-b14": "85.7",
    "tips-l14": "303.2",
    "tips-so400m14": "412.4",
    "tipsv2-b14": "86.3",
    "tipsv2-l14": "304.0",
    "tipsv2-so400m14": "413.3",
}


def of(source: str) -> list[str]:
    return [name for name, card in sorted(CARDS.items()) if card.source == source]


def test_the_ten_official_checkpoints_and_the_baselines_are_there() -> None:
    assert set(OFFICIAL) <= set(CARDS)
    assert {"pixels", "tips-tiny-random", "tips-nano", "tips-nano-random"} <= set(CARDS)


def test_every_card_is_listed() -> None:
    assert [card.name for card in list_cards("model")[0]] == sorted(CARDS)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_card_names_a_source_a_licence_and_where_it_comes_from(name: str) -> None:
    card = CARDS[name]
    assert card.source in ENCODERS.names() and card.source != "callable"
    assert card.license and card.citation and card.title
    assert card.homepage.startswith("https://")
    assert all(0 <= mean <= 1 for mean in card.mean) and all(0 < std <= 1 for std in card.std)


@pytest.mark.parametrize("name", sorted(set(CARDS) - {"pixels"}))
def test_a_cards_weights_have_one_place(name: str) -> None:
    card = CARDS[name]
    for weights in (card.weights, card.text_weights, card.tokenizer):
        if weights is None:
            continue
        assert weights.path is None or (shipped("model_zoo") / weights.path).exists(), "a shipped card names no file that is not shipped"
        places = (weights.seed, weights.path, weights.url or weights.file)
        assert sum(place is not None for place in places) == 1
        assert weights.url is None or re.fullmatch(r"https://\S+\.(npz|model|pth)", weights.url)
        assert weights.how_to_get is None or (weights.file and not weights.hub), "what is behind a form is fetched by nothing else"
        assert weights.hub is None or re.fullmatch(r"[\w.-]+/[\w.-]+", weights.hub)
    assert card.weights is not None


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_card_names_both_towers_of_its_own_checkpoint(name: str) -> None:
    card = CARDS[name]
    version, size = name.removesuffix("-lr").split("-")
    assert card.weights and card.weights.url and card.text_weights and card.text_weights.url
    assert card.weights.url.replace("_vision.npz", "_text.npz") == card.text_weights.url
    assert f"/{'v1_0' if version == 'tips' else 'v2_0'}/checkpoints/pytorch/" in card.weights.url
    short = size.replace("so400m14", "so14") if version == "tipsv2" else size
    assert f"_oss_{short}" in card.weights.url
    assert ("lowres" in card.weights.url) == name.endswith("-lr")
    assert card.resolution == (224 if name.endswith("-lr") else 448)
    assert (card.mean, card.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert card.weights.hub == f"google/{name.replace('tips-', 'tipsv1-').replace('-lr', '-lowres')}"


@pytest.mark.parametrize("name", of("tips"))
def test_a_tips_card_states_what_its_architecture_has(name: str) -> None:
    from tips_bench.encoders.tips import check_card, configs
    from tips_bench.models.vision import VisionTower

    card = CARDS[name]
    check_card(card)
    with torch.device("meta"):
        tower = VisionTower(configs(card)[0])
    assert sum(parameter.numel() for parameter in tower.parameters()) == card.parameters


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_parameters_are_the_published_ones(name: str) -> None:
    # Published figures are cut or rounded, v1's without the position table.
    assert CARDS[name].parameters == pytest.approx(float(PUBLISHED_MILLIONS[name]) * 1e6, rel=5e-3)


@pytest.mark.parametrize("name", of("timm"))
def test_a_timm_card_states_what_timm_does(name: str) -> None:
    import timm

    from tips_bench.encoders.timm import TimmEncoder

    card = CARDS[name]
    assert card.architecture["name"] in timm.list_models(pretrained=True)
    _states_the_same(card, TimmEncoder.describe(card.architecture["name"]))


@pytest.mark.parametrize("name", of("open_clip"))
def test_an_open_clip_card_states_what_open_clip_does(name: str) -> None:
    import open_clip

    from tips_bench.encoders.open_clip import OpenClipEncoder

    card = CARDS[name]
    assert (card.architecture["name"], card.architecture["pretrained"]) in open_clip.list_pretrained()
    _states_the_same(card, OpenClipEncoder.describe("{name}/{pretrained}".format(**card.architecture)))


def _states_the_same(card: ModelCard, found: ModelCard) -> None:
    told = {"name", "title", "license", "citation", "homepage", "notes"}
    assert card.model_dump(exclude=told) == found.model_dump(exclude=told)


@pytest.mark.slow
def test_reading_all_cards_loads_no_torch() -> None:
    code = (
        "import sys, tips_bench.cards, tips_bench.catalog as c; from tips_bench.encoders import resolve_model_card;"
        "[resolve_model_card(n) for n in c.card_files('model')]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tipsv2_cards_alone_name_released_heads_one_of_each_kind_at_the_official_address() -> None:
    base = "https://storage.googleapis.com/tips_data/v2_0/checkpoints/scenic/tips_v2_"
    for card in list_cards("model")[0]:
        size = card.name.removeprefix("tipsv2-") if card.name.startswith("tipsv2-") else None
        assert set(card.heads) == ({"segmentation", "depth", "normals"} if size else set()), card.name
        for kind, weights in card.heads.items():
            assert (weights.url, weights.hub) == (f"{base}{size}_{kind}_dpt.zip", f"google/tipsv2-{size}-dpt")
