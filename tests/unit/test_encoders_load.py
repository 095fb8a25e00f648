"""Names, weights, devices and precisions on the way to an encoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tips_bench
from tips_bench import load_encoder
from tips_bench.encoders import resolve_model_card
from tips_bench.encoders.weights import parse_weights, prefix_fix, require_package
from tips_bench.errors import UserError
from tips_bench.models.configs import VisionConfig
from tips_bench.models.files.checkpoints import save_checkpoint
from tips_bench.models.vision import VisionTower

CONFIG = VisionConfig(name="toy", embed_dim=32, depth=2, num_heads=2, mlp_dim=64, position_grid=(4, 4))
CARD = """
name: mine
title: mine
source: {source}
architecture: {architecture}
{weights}
patch_size: 14
embed_dim: 32
depth: 2
mean: [0, 0, 0]
std: [1, 1, 1]
resolution: 56
global_tokens: 2
license: none
citation: none
homepage: none
"""
VISION = "{vision: {embed_dim: 32, depth: 2, num_heads: 2, mlp_dim: 64, position_grid: [4, 4]}}"


def write_card(folder: Path, source: str = "tips", architecture: str = VISION, weights: str = "") -> Path:
    path = folder / "mine.yaml"
    path.write_text(CARD.format(source=source, architecture=architecture, weights=weights))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    save_checkpoint(path, vision=VisionTower.random(CONFIG, 4))
    return path


def test_the_package_exports_it() -> None:
    assert tips_bench.load_encoder is load_encoder


def test_an_unknown_name_suggests_near_ones() -> None:
    with pytest.raises(UserError, match=r"no model named 'tips-b15'\. Did you mean 'tips-b14'"):
        load_encoder("tips-b15")


def test_a_card_file_of_the_users_own_is_loaded(tmp_path: Path, checkpoint: Path) -> None:
    encoder = load_encoder(write_card(tmp_path, weights=f"weights: {{path: {checkpoint}}}"), device="cpu")
    assert encoder.spec.name == "mine"
    tower = VisionTower.random(CONFIG, 4).eval()
    pixels = torch.rand(1, 3, 56, 28)
    with torch.inference_mode():
        assert torch.allclose(encoder.encode_image(pixels).patches[0], tower(pixels).patches[0], atol=1e-5)


def test_the_identity_of_weights_is_the_hash_of_their_file(checkpoint: Path) -> None:
    import hashlib

    assert load_encoder(str(checkpoint), device="cpu").spec.weights_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_a_weight_file_alone_is_an_encoder_named_after_it(checkpoint: Path) -> None:
    card = resolve_model_card(checkpoint)
    assert (card.name, card.source, card.embed_dim, card.depth, card.resolution, card.has_text) == ("toy", "tips", 32, 2, 56, False)
    assert load_encoder(card, device="cpu").encode_image(torch.rand(1, 3, 14, 14)).patches[0].shape == (1, 1, 1, 32)


@pytest.mark.parametrize(
    ("name", "side"), [("tips_oss_b14_highres_distilled_vision.npz", 448), ("tips_oss_g14_lowres_vision.npz", 224), ("mine.npz", 56)]
)
def test_the_native_resolution_of_official_first_files_is_that_of_their_names(name: str, side: int, tmp_path: Path) -> None:
    """Their grid of positions is the same for both resolutions."""
    tensors = {key: tensor.numpy() for key, tensor in VisionTower.random(CONFIG, 4).state_dict().items()}
    np.savez(tmp_path / name, **tensors)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "tipsv2_vision_model", "num_attention_heads": 2}))
    card = resolve_model_card(tmp_path / name)
    assert card.resolution == side and card.preprocessing is not None and card.preprocessing.short_side == side


@pytest.mark.parametrize(("size", "side"), [({"height": 448, "width": 448}, 448), (448, 448), ({"shortest_edge": 448}, 56), ("448", 56)])
def test_the_native_resolution_is_that_of_the_processor_beside_the_weights(size: object, side: int, checkpoint: Path) -> None:
    (checkpoint.parent / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    assert resolve_model_card(checkpoint).resolution == side


@pytest.mark.parametrize("name", ["model.pth", "./model.pt", "model.bin", "model.ckpt", "notes.txt", "other.safetensors"])
def test_a_file_that_is_no_model_of_tips_is_told_to_be_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.nn.Linear(3, 4).state_dict()
    if name.endswith(".safetensors"):
        save_file(state, name)
    elif name.endswith(".txt"):
        Path(name).write_text("tips")
    else:
        torch.save(state, name)
    with pytest.raises(UserError, match=r"give that as --model \(timm:NAME, or a card\) and this file as --weights") as caught:
        resolve_model_card(name)
    assert Path(name).name in str(caught.value) and caught.value.__cause__ is not None


def test_a_weight_file_that_is_not_there_is_not_called_an_unknown_model() -> None:
    with pytest.raises(UserError, match=r"absent\.pth: there is no such file or folder\. Check the path\. .*this file as --weights"):
        resolve_model_card("absent.pth")


def test_a_card_may_not_name_code(tmp_path: Path) -> None:
    path = write_card(tmp_path, source="callable", architecture="{target: 'os:getcwd'}")
    with pytest.raises(UserError, match="a card may not name code to run"):
        load_encoder(path)


def test_cards_that_contradict_themselves_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source = 'nope'. Use one of"):
        load_encoder(write_card(tmp_path, source="nope"))
    with pytest.raises(UserError, match="embed_dim = 32, but its architecture has 768"):
        load_encoder(write_card(tmp_path, architecture="{size: tips-b14}", weights="weights: {seed: 0}"))
    with pytest.raises(UserError, match="the card names no weights"):
        load_encoder(write_card(tmp_path))
    with pytest.raises(UserError, match=r"weights\.path = 'gone\.npz': there is no such file"):
        load_encoder(write_card(tmp_path, weights="weights: {path: gone.npz}"))
    with pytest.raises(UserError, match=r"the keys are \['depth'\]"):
        load_encoder(write_card(tmp_path, architecture="{depth: 3}", weights="weights: {seed: 0}"))
    with pytest.raises(UserError, match="embed_dim = 32, but patches of 14 have 588 values"):
        load_encoder(write_card(tmp_path, source="pixels", architecture="{}"))


def test_weights_that_do_not_exist_or_do_not_fit_are_one_sentence(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no weight file '.*gone\.npz'"):
        load_encoder("tips-tiny-random", weights=tmp_path / "gone.npz")
    with pytest.raises(UserError, match=r"toy\.safetensors.*(depth|embed_dim|num_heads|mlp_dim) = "):
        load_encoder("tips-tiny-random", weights=checkpoint)
    with pytest.raises(UserError, match="raw pixels have none"):
        load_encoder("pixels", weights="random")
    with pytest.raises(UserError, match="no such file or folder"):
        load_encoder("./nowhere/")


def test_a_prefix_of_training_code_is_named() -> None:
    names = ["blocks.0.weight", "norm.weight"]
    fix = prefix_fix(names, [f"teacher.backbone.{name}" for name in names] + ["teacher.head.weight"])
    assert fix is not None and "begin with 'teacher.backbone.'" in fix
    assert prefix_fix(names, ["teacher.blocks.0.weight", "student.norm.weight"]) is None
    assert prefix_fix(names, names) is None
    assert prefix_fix([], names) is None


def test_a_checkpoint_with_nan_is_refused(tmp_path: Path) -> None:
    tower = VisionTower.random(CONFIG, 4)
    with torch.no_grad():
        tower.blocks[1].norm2.weight[3] = float("nan")
    save_checkpoint(tmp_path / "nan.safetensors", vision=tower)
    with pytest.raises(UserError, match=r"nan\.safetensors.*norm2\.weight.*(NaN|finite)"):
        load_encoder(str(tmp_path / "nan.safetensors"))


@pytest.mark.parametrize(("asked", "seed"), [("random", 0), ("random:7", 7)])
def test_random_weights_are_asked_for_by_word(asked: str, seed: int) -> None:
    weights = parse_weights(asked)
    assert (weights.seed, weights.path, weights.identity) == (seed, None, f"random:{seed}")


@pytest.mark.parametrize("asked", ["random:", "random:x", "Random", "random:-1"])
def test_what_only_looks_like_random_is_taken_for_a_file(asked: str) -> None:
    with pytest.raises(UserError, match="there is no weight file"):
        parse_weights(asked)


def test_devices_and_precisions_are_checked_before_any_work() -> None:
    for device in ("gpu", "cuda:99", "nope:0", "mps", "xpu:0"):
        with pytest.raises(UserError, match=f"device: '{device}'"):
            load_encoder("pixels", device=device)
    with pytest.raises(UserError, match=r"dtype: 'fp16' is not a precision\. Use fp32 or bf16"):
        load_encoder("pixels", dtype="fp16")


@pytest.mark.parametrize(("name", "package"), [("timm:vit_tiny_patch16_224", "timm"), ("open_clip:ViT-B-16/openai", "open_clip")])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"the package {package} is not installed\. pip install timm transformers open_clip_torch"):
        load_encoder(name)


def test_a_package_broken_inside_is_not_called_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_package.py").write_text("import does_not_exist_either")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="does_not_exist_either"):
        require_package("broken_package")


def test_text_asked_of_an_encoder_without_it_is_an_error_before_any_work() -> None:
    with pytest.raises(UserError, match="pixels: this encoder has no text tower"):
        load_encoder("pixels").encode_text(["a cat"])


def test_the_resize_rule_enlarges_to_the_next_patch_and_adds_no_padding(tmp_path: Path) -> None:
    path = write_card(tmp_path, weights="weights: {seed: 0}\npad: resize")
    encoder = load_encoder(path, device="cpu")
    pixels = torch.rand(1, 3, 15, 27)
    found = encoder.encode_image(pixels)
    larger = torch.nn.functional.interpolate(pixels, (28, 28), mode="bilinear")
    assert found.padding == (0, 0, 0, 0)
    assert torch.allclose(found.patches[0], encoder.encode_image(larger).patches[0], atol=1e-5)
