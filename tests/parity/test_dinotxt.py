"""dino.txt against its own code: tests/parity/data/README.md says which functions made the golden tensors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.helpers.filled import filled
from tests.helpers.zeroshot_maps import context_of, score_maps, zero_shot_task
from tips_bench import load_encoder
from tips_bench.adapters.zeroshot_segmentation import ZeroShotAdapter
from tips_bench.cards import load_card
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.features.cache import FeatureCache

DATA = Path(__file__).parent / "data"
BACKBONES = {"dinov2": "vit_small_patch14_reg4_dinov2", "dinov3": "vit_small_patch16_dinov3_qkvb"}
CARDS = {"dinov2": "dinotxt-dinov2-l14", "dinov3": "dinotxt-dinov3-l16"}


def write_cards(kind: str, folder: Path, manifest: dict[str, dict[str, list[int]]]) -> Path:
    """The card of a small dino.txt model whose weights lie beside it in their released formats."""
    for part, shapes in manifest.items():
        torch.save(filled(shapes), folder / f"{kind}_{part}.pth")
    backbone = load_encoder(f"timm:{BACKBONES[kind]}", weights="random", device="cpu").spec
    shared = {"patch_size": backbone.patch_size, "embed_dim": 384, "mean": list(backbone.mean), "std": list(backbone.std)}
    shared |= {"resolution": backbone.resolution, "global_tokens": 5, "license": "x", "citation": "x", "homepage": "https://x"}
    weights = {"path": str(folder / f"{kind}_backbone.pth")}
    below = {"name": "below", "title": "x", "source": "timm", "architecture": {"name": BACKBONES[kind]}, "weights": weights, "depth": 12}
    (folder / "below.yaml").write_text(yaml.safe_dump(below | shared))
    shape = {"head": {"depth": 2, "num_heads": 6}, "text": {"embed_dim": 64, "depth": 3, "num_heads": 4}}
    own = {"name": "above", "title": "x", "source": "dinotxt", "has_text": True, "depth": 14}
    own["architecture"] = {"backbone": str(folder / "below.yaml")} | shape
    own["weights"] = {"path": str(folder / f"{kind}_{'head' if 'head' in manifest else 'both'}.pth")}
    if "text" in manifest:
        own["text_weights"] = {"path": str(folder / f"{kind}_text.pth")}
    (folder / "above.yaml").write_text(yaml.safe_dump(own | shared))
    return folder / "above.yaml"


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def golden(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    with np.load(DATA / f"dinotxt_{request.param}.npz") as data:
        yield request.param, dict(data)


@pytest.fixture(scope="module")
def encoder(golden: tuple[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    kind, data = golden
    return load_encoder(write_cards(kind, tmp_path_factory.mktemp(kind), json.loads(str(data["manifest"]))), device="cpu")


def near(found: torch.Tensor, wanted: np.ndarray, atol: float = 1e-5) -> bool:
    # Values reach 4: float32 keeps 2e-7 of each, and 14 blocks add up to a few 1e-6.
    return found.shape == wanted.shape and bool(torch.allclose(found, torch.from_numpy(wanted), rtol=0, atol=atol))


@torch.inference_mode()
def test_image_features_are_those_of_the_source(golden: tuple[str, Any], encoder: Encoder) -> None:
    _, data = golden
    pixels = torch.from_numpy(data["pixels"]).float() / 255
    found = encoder.encode_image(pixels, layers=(-3, -1))
    assert near(found.patches[0].flatten(1, 2), data["backbone_patches"])
    assert near(found.patches[1].flatten(1, 2), data["patches"])
    assert near(found.globals_BKD[:, 0], data["cls"])
    assert near(encoder.embed_image(pixels)[:, 0], data["image"])


@torch.inference_mode()
def test_texts_are_cut_into_the_same_tokens_and_embedded_the_same(golden: tuple[str, Any], encoder: Encoder) -> None:
    _, data = golden
    texts = json.loads(str(data["texts"]))
    assert torch.equal(encoder._tokenized(texts), torch.from_numpy(data["ids"].astype(np.int64)))
    assert near(encoder.encode_text(texts), data["text"])
    assert torch.equal(encoder.encode_patch_text(texts), encoder.encode_text(texts)[:, 384:])
    assert encoder.cut_texts(texts) == 1


@torch.inference_mode()
def test_layers_may_be_asked_for_in_any_order_with_and_without_the_norm(encoder: Encoder) -> None:
    pixels = torch.rand(1, 3, 2 * encoder.spec.patch_size, 3 * encoder.spec.patch_size, generator=torch.Generator().manual_seed(0))
    layers = (12, 3, -1, 11, -2)
    normed, plain = (encoder.encode_image(pixels, layers=layers, norm=norm) for norm in (True, False))
    assert torch.equal(normed.patches[0], normed.patches[4])
    for place, layer in enumerate(layers):
        norm = encoder.head.norm if layer % 14 > 11 else encoder.backbone.model.norm
        assert torch.allclose(norm(plain.patches[place]), normed.patches[place], atol=1e-5)
        assert torch.allclose(norm(plain.layer_globals[place]), normed.layer_globals[place], atol=1e-5)
        alone = encoder.encode_image(pixels, layers=(layer,), norm=False)
        assert torch.allclose(alone.patches[0], plain.patches[place], atol=1e-5)


@pytest.mark.parametrize("name", CARDS.values())
def test_a_released_model_has_the_sizes_of_its_card(name: str) -> None:
    from tips_bench.encoders.dinotxt import architecture, build

    card = load_card("model", name)
    with torch.device("meta"):
        head, text = build(card)
    backbone = load_card("model", architecture(card).backbone)
    assert card.parameters == backbone.parameters + sum(parameter.numel() for parameter in head.parameters())
    assert (card.depth, card.patch_size, card.mean) == (backbone.depth + 2, backbone.patch_size, backbone.mean)
    assert (text.token_embed.weight.shape, text.pos_embed.shape, text.proj.weight.shape) == ((49408, 1280), (77, 1280), (2048, 1280))
    assert head.blocks[0].mlp.w3.weight.shape == (1024, 2752)


def test_weights_behind_a_form_are_asked_for_with_the_place_of_the_form() -> None:
    with pytest.raises(UserError, match="cannot be downloaded without a form") as caught:
        load_encoder("dinotxt-dinov3-l16", device="cpu")
    assert "https://ai.meta.com/" in str(caught.value.fix) and "--weights" in str(caught.value.fix)


def test_the_two_files_of_a_model_are_found_by_their_released_names(tmp_path: Path) -> None:
    with np.load(DATA / "dinotxt_dinov2.npz") as data:
        manifest = json.loads(str(data["manifest"]))
    card = write_cards("dinov2", tmp_path, manifest)
    for part, name in (("head", "x_vision_head.pth"), ("text", "x_text_encoder.pth")):
        (tmp_path / f"dinov2_{part}.pth").rename(tmp_path / name)
    encoder = load_encoder(card, weights=tmp_path / "x_vision_head.pth", device="cpu")
    assert encoder.encode_text(["a cat"]).shape == (1, 768)
    (tmp_path / "x_text_encoder.pth").unlink()
    with pytest.raises(UserError, match="tensors are missing"):
        load_encoder(card, weights=tmp_path / "x_vision_head.pth", device="cpu")


def test_a_wrong_number_of_a_card_is_named(tmp_path: Path) -> None:
    card = load_card("model", "dinotxt-dinov2-l14")
    small = card.model_copy(update={"architecture": card.architecture | {"backbone": "timm:vit_small_patch14_reg4_dinov2"}})
    with pytest.raises(UserError, match="embed_dim = 1024, but backbone and head have 384"):
        load_encoder(small, weights="random", device="cpu")
    misspelt = card.model_copy(update={"architecture": card.architecture | {"heads": 3}})
    with pytest.raises(UserError, match=r"architecture\.heads"):
        load_encoder(misspelt, weights="random", device="cpu")


@torch.inference_mode()
def test_maps_are_those_of_the_sources_notebook(golden: tuple[str, Any], encoder: Encoder, tmp_path: Path) -> None:
    kind, data = golden
    # dinov3's own functions give the backbone's patches; dinov2 has those of the head alone.
    name, patches = {"dinov2": ("dino-txt-head", "head"), "dinov3": ("dino-txt", "backbone")}[kind]
    protocol = load_card("protocol", name)
    task = zero_shot_task(tmp_path, json.loads(str(data["classes"])), [data["image0"], data["image1"]])
    adapter = ZeroShotAdapter(task, protocol)
    test = adapter.open(tmp_path, None).test
    context = context_of(encoder, protocol, FeatureCache(tmp_path / "cache"))
    assert near(adapter._text_head(context).weight_TD, data["weight"])
    equal = pixels = 0
    for place, (scores_CHW, predicted_HW) in enumerate(score_maps(adapter, context, test.reader)):
        wanted_CHW = data[f"{patches}{place}"]
        assert np.abs(scores_CHW - wanted_CHW).max() < 1e-6  # of 0.14: seven classes share 1
        equal += int((predicted_HW == wanted_CHW.argmax(0)).sum())
        pixels += predicted_HW.size
    assert pixels == 60 * 83 + 97 * 71
    assert equal / pixels >= 0.9999
