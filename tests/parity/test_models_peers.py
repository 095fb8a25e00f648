"""The towers against two implementations that we did not write, transformers' Tipsv2Model and timm's ViT, with the same random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
import timm
import torch
import transformers
from torch import Tensor

from tips_bench.models.configs import TextConfig, VisionConfig, text_config, vision_config
from tips_bench.models.files.checkpoints import export_huggingface, load_text, load_vision
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

Tower = TypeVar("Tower", VisionTower, TextTower)

TOLERANCE = 1e-4
TINY = VisionConfig(name="tiny", embed_dim=48, depth=3, num_heads=3, mlp_dim=192, position_grid=(4, 4))
TINY_TEXT = TextConfig(name="tiny", embed_dim=48, depth=2, num_heads=3, mlp_dim=96, vocab_size=50)
SHAPES = {
    "tiny": (TINY, TINY_TEXT),
    "tiny-swiglu": (replace(TINY, ffn="swiglu", mlp_dim=128), TINY_TEXT),
    "tiny-tanh": (replace(TINY, gelu="tanh"), TINY_TEXT),
    # So400m's ratio of 4304 to 1152, whose product with the width is not an integer in floating point.
    "tiny-ratio": (replace(TINY, mlp_dim=179), TINY_TEXT),
    # A small vocabulary and position grid save embeddings and time, and no mathematics.
    "b": (replace(vision_config("tipsv2-b14"), position_grid=(8, 8)), replace(text_config("tipsv2-b14"), vocab_size=500)),
}


@dataclass
class Pair:
    """Our towers and transformers' model with the same weights."""

    vision: VisionTower
    text: TextTower
    peer: transformers.Tipsv2Model


@cache
def vision_tower(shape: str) -> VisionTower:
    """Random weights, with biases, scales and tokens away from zero and one, so that none can be left out unnoticed."""
    return disturbed(load_vision(None, SHAPES[shape][0], seed=0))


def disturbed(tower: Tower) -> Tower:
    generator = torch.Generator().manual_seed(0)
    for parameter in tower.parameters():
        if parameter.ndim < 2 or parameter.numel() < 5000:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return tower


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    vision, text = vision_tower(request.param), disturbed(load_text(None, SHAPES[request.param][1], seed=0))
    text.temperature = 0.02
    folder: Path = tmp_path_factory.mktemp("export")
    export_huggingface(folder, vision, text)
    peer, report = transformers.Tipsv2Model.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    yield Pair(vision, text, peer.eval())


def images(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize(("height", "width"), [(112, 112), (70, 98)])
def test_image_features_of_every_block_are_those_of_transformers(pair: Pair, height: int, width: int, packed: bool) -> None:
    pixels, depth, grid = images(height, width), pair.vision.config.depth, (height // 14, width // 14)
    pair.vision.unpack()
    assert not packed or pair.vision.pack()
    with torch.inference_mode():
        raw = pair.vision(pixels, layers=range(depth), norm=False)
        normed = pair.vision(pixels)
        wanted = pair.peer.vision_model(pixels, output_hidden_states=True)
    assert_near(normed.globals_BKD, wanted.last_hidden_state[:, :2])
    assert_near(normed.patches[0], wanted.last_hidden_state[:, 2:].unflatten(1, grid))
    # transformers lists the embedding first, and one state for each block after it.
    for found, state in zip(raw.patches, wanted.hidden_states[1:], strict=True):
        assert_near(found, state[:, 2:].unflatten(1, grid))


def test_masked_patches_are_those_of_transformers(pair: Pair) -> None:
    pixels, mask = images(56, 70), torch.rand(2, 20, generator=torch.Generator().manual_seed(1)) < 0.6
    with torch.inference_mode():
        found = pair.vision(pixels, mask_BP=mask)
        wanted = pair.peer.vision_model(pixels, bool_masked_pos=mask).last_hidden_state
    assert_near(found.patches[0], wanted[:, 2:].unflatten(1, (4, 5)))


def test_text_embeddings_and_temperature_are_those_of_transformers(pair: Pair) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, pair.text.config.vocab_size, (5, 64), generator=generator)
    lengths = torch.tensor([1, 7, 20, 63, 64])
    paddings = (torch.arange(64)[None] >= lengths[:, None]).long()
    with torch.inference_mode():
        found = pair.text(ids, paddings)
        wanted = pair.peer.text_model(ids, attention_mask=1 - paddings).pooler_output
    assert_near(found, wanted)
    assert pair.peer.temperature.item() == pytest.approx(0.02)


def timm_state(tower: VisionTower) -> dict[str, Tensor]:
    """Our weights under timm's names. timm gives positions to patches alone, so CLS takes its own into its token."""
    state = {name: value for name, value in tower.state_dict().items() if name != "mask_token"}
    positions, registers = state.pop("pos_embed"), state.pop("register_tokens")
    return state | {"cls_token": state["cls_token"] + positions[:, :1], "reg_token": registers, "pos_embed": positions[:, 1:]}


@pytest.mark.parametrize("shape", ["tiny", "b"])
def test_image_features_are_those_of_timm(shape: str) -> None:
    tower = vision_tower(shape)
    tower.unpack()
    config = tower.config
    sizes = {
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_dim / config.embed_dim,
    }
    side = config.position_grid[0] * config.patch_size
    with torch.device("meta"):
        peer = timm.create_model("vit_base_patch14_reg1_tipsv2", img_size=side, **sizes).eval()
    peer.load_state_dict(timm_state(tower), assign=True)
    # timm resamples positions bicubically; at the grid of its table it does not.
    pixels = images(side, side)[:1]
    with torch.inference_mode():
        found, wanted = tower(pixels), peer.forward_features(pixels)
    assert_near(found.globals_BKD, wanted[:, :2])
    assert_near(found.patches[0], wanted[:, 2:].unflatten(1, config.position_grid))


@pytest.mark.parametrize("ffn", ["mlp", "swiglu"])
def test_towers_are_read_from_what_transformers_saves(ffn: str, tmp_path: Path) -> None:
    config = transformers.Tipsv2Config(
        vision_config={
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 56,
            "use_swiglu_ffn": ffn == "swiglu",
        },
        text_config={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "vocab_size": 50},
    )
    torch.manual_seed(0)
    peer = transformers.Tipsv2Model(config).eval()
    peer.save_pretrained(tmp_path)
    vision, text = load_vision(tmp_path), load_text(tmp_path)
    assert (vision.config.ffn, vision.config.num_heads, vision.config.position_grid) == (ffn, 3, (4, 4))
    assert text.temperature == pytest.approx(peer.temperature.item())
    ids = torch.randint(0, 50, (2, 9))
    with torch.inference_mode():
        assert_near(vision(images(56, 56)).patches[0], peer.vision_model(images(56, 56)).last_hidden_state[:, 2:].unflatten(1, (4, 4)))
        assert_near(text(ids, torch.zeros_like(ids)), peer.text_model(ids, attention_mask=torch.ones_like(ids)).pooler_output)


@pytest.mark.parametrize("part", ["vision", "text"])
def test_one_tower_is_read_from_what_transformers_saves_of_it_alone(part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if part == "vision":
        shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 56}
        peer = transformers.Tipsv2VisionModel(transformers.Tipsv2VisionConfig(**shape)).eval()
        peer.save_pretrained(tmp_path)
        with torch.inference_mode():
            found = load_vision(tmp_path)(images(56, 56)).globals_BKD
            assert_near(found, peer(images(56, 56)).last_hidden_state[:, :2])
    else:
        shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "vocab_size": 50}
        peer = transformers.Tipsv2TextModel(transformers.Tipsv2TextConfig(**shape)).eval()
        peer.save_pretrained(tmp_path)
        ids = torch.randint(0, 50, (2, 9))
        with torch.inference_mode():
            assert_near(load_text(tmp_path)(ids, torch.zeros_like(ids)), peer(ids, attention_mask=torch.ones_like(ids)).pooler_output)


def test_the_exported_image_processor_resizes_and_does_not_normalise(tmp_path: Path) -> None:
    export_huggingface(tmp_path, load_vision(None, TINY, seed=0), load_text(None, TINY_TEXT, seed=0), resolution=70)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    image = torch.full((3, 35, 35), 255, dtype=torch.uint8)
    assert torch.equal(processor(image, return_tensors="pt").pixel_values, torch.ones(1, 3, 70, 70))
