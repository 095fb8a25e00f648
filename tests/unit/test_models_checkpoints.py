"""Towers through every file format and back, and what a file's config says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tips_bench.models.configs import Config, TextConfig, VisionConfig
from tips_bench.models.files.checkpoints import export_huggingface, load_text, load_vision, save_checkpoint, tensors_of
from tips_bench.models.files.formats import TEXT_NAMINGS, VISION_NAMINGS, Naming
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
MLP = VisionConfig(name="tiny", embed_dim=48, depth=2, num_heads=3, mlp_dim=192, position_grid=(4, 4))
SWIGLU = replace(MLP, ffn="swiglu", mlp_dim=128)
TEXT = TextConfig(name="tiny", embed_dim=48, depth=2, num_heads=3, mlp_dim=96, vocab_size=50)


def make(config: Config) -> Any:
    """A tower whose every parameter differs from what it starts from."""
    tower = load_vision(None, config, seed=0) if isinstance(config, VisionConfig) else load_text(None, config, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in tower.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return tower


def assert_same(found: VisionTower | TextTower, wanted: VisionTower | TextTower, *, but: tuple[str, ...] = ()) -> None:
    for (name, a), (_, b) in zip(found.named_parameters(), wanted.named_parameters(), strict=True):
        assert torch.equal(a, b) or name.endswith(but), name


@pytest.mark.parametrize(
    ("naming", "config"),
    [(naming, {"mlp": MLP, "swiglu": SWIGLU}[ffn]) for naming in VISION_NAMINGS for ffn in naming.ffn],
    ids=lambda value: value.name if isinstance(value, Naming) else value.ffn,
)
@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_an_image_tower_survives_every_naming_and_container(naming: Naming, config: VisionConfig, container: str, tmp_path: Path) -> None:
    tower = make(config)
    for prefix in naming.prefixes:
        path = write(tmp_path / f"weights.{container}", tensors_of(tower, naming, prefix))
        found = load_vision(path, config)
        # Flax towers have no mask token, LayerScale or position of CLS.
        if naming.name == "Flax":
            assert torch.equal(found.pos_embed[:, 1:], tower.pos_embed[:, 1:])
            assert found.config == replace(config, gelu="tanh")
            assert_same(found, tower, but=("gamma", "mask_token", "pos_embed"))
        else:
            assert_same(found, tower)


@pytest.mark.parametrize("naming", TEXT_NAMINGS, ids=lambda naming: naming.name)
@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_a_text_tower_survives_every_naming_and_container(naming: Naming, container: str, tmp_path: Path) -> None:
    tower = make(TEXT)
    for prefix in naming.prefixes:
        path = write(tmp_path / f"weights.{container}", tensors_of(tower, naming, prefix))
        assert_same(load_text(path, TEXT), tower)


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


@pytest.mark.parametrize(
    ("file", "naming"),
    [("torch_vision_mlp", "PyTorch"), ("torch_vision_swiglu", "PyTorch"), ("scenic_vision_mlp", "Flax"), ("scenic_vision_swiglu", "Flax")],
)
def test_an_image_tower_goes_back_to_the_official_tensors(file: str, naming: str) -> None:
    ffn = file.rpartition("_")[2]
    config = replace(SWIGLU if ffn == "swiglu" else MLP, depth=3)
    tower = load_vision(GOLDEN / f"{file}_weights.npz", config)
    found = tensors_of(tower, next(n for n in VISION_NAMINGS if n.name == naming), "")
    assert_official(found, f"{file}_weights.npz")


@pytest.mark.parametrize(("file", "naming", "depth", "mlp_dim"), [("torch_text", "PyTorch", 2, 96), ("scenic_text", "Flax", 12, 192)])
def test_a_text_tower_goes_back_to_the_official_tensors(file: str, naming: str, depth: int, mlp_dim: int) -> None:
    tower = load_text(GOLDEN / f"{file}_weights.npz", replace(TEXT, depth=depth, mlp_dim=mlp_dim, vocab_size=100))
    assert_official(tensors_of(tower, next(n for n in TEXT_NAMINGS if n.name == naming), ""), f"{file}_weights.npz")


def assert_official(found: dict[str, torch.Tensor], file: str) -> None:
    with np.load(GOLDEN / file) as archive:
        official = {key: archive[key] for key in archive if not key.startswith("temperature")}
    assert set(found) == set(official)
    for name, array in official.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_our_own_file_brings_towers_configs_and_temperature_back(tmp_path: Path) -> None:
    vision, text = make(replace(MLP, position_grid=(3, 5), gelu="tanh", layer_norm_eps=1e-5)), make(TEXT)
    text.temperature = 0.03
    save_checkpoint(tmp_path / "model.safetensors", vision=vision, text=text)
    found_vision, found_text = load_vision(tmp_path / "model.safetensors"), load_text(tmp_path / "model.safetensors")
    assert (found_vision.config, found_text.config) == (vision.config, text.config)
    assert found_text.temperature == pytest.approx(0.03)
    assert_same(found_vision, vision)
    assert_same(found_text, text)
    assert not found_vision.training and not any(parameter.requires_grad for parameter in found_vision.parameters())


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save_checkpoint(tmp_path / name, vision=make(MLP), text=make(TEXT))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_half_precision_tower_is_saved_and_loaded_in_the_precision_asked_for(tmp_path: Path) -> None:
    tower = make(MLP).to(torch.bfloat16)
    save_checkpoint(tmp_path / "half.safetensors", vision=tower)
    with safe_open(tmp_path / "half.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}  # noqa: SIM118
    assert_same(load_vision(tmp_path / "half.safetensors", dtype=torch.bfloat16), tower)
    assert load_vision(tmp_path / "half.safetensors").pos_embed.dtype == torch.float32


def test_heads_come_from_the_nested_config_beside_the_file(tmp_path: Path) -> None:
    export_huggingface(tmp_path, make(MLP), make(TEXT))
    assert load_vision(tmp_path / "model.safetensors").config == replace(MLP, name="model.safetensors")
    values = json.loads((tmp_path / "config.json").read_text())
    # What equals the default of Tipsv2Config may be left out.
    del values["vision_config"]["layer_norm_eps"], values["vision_config"]["hidden_act"], values["temperature_init_value"]
    values["text_config"]["layer_norm_eps"] = 1e-4
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load_vision(tmp_path).config == replace(MLP, name="model.safetensors")
    assert load_text(tmp_path).config.layer_norm_eps == 1e-4


def test_heads_and_temperature_come_from_the_flat_config_of_the_official_repositories(tmp_path: Path) -> None:
    vision = make(VisionConfig(name="t", embed_dim=768, depth=1, num_heads=12, mlp_dim=64, position_grid=(2, 2)))
    text = make(TextConfig(name="t", embed_dim=48, depth=1, num_heads=4, mlp_dim=64, vocab_size=20))
    prefixed = tensors_of(vision, VISION_NAMINGS[0], "vision_encoder.") | tensors_of(text, TEXT_NAMINGS[0], "text_encoder.")
    write(tmp_path / "model.safetensors", prefixed)
    flat = {"model_type": "tipsv2", "vision_fn": "vit_base", "img_size": 28, "text_num_heads": 4, "temperature": 0.005}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    assert load_vision(tmp_path).config.num_heads == 12
    found = load_text(tmp_path)
    assert (found.config.num_heads, found.temperature) == (4, 0.005)
    assert_same(load_vision(tmp_path), vision)
    assert_same(found, text)


def test_shards_listed_by_an_index_are_read_as_one(tmp_path: Path) -> None:
    tower = make(MLP)
    tensors = tensors_of(tower, VISION_NAMINGS[0], "")
    names = list(tensors)
    parts = {"a.safetensors": names[:10], "b.safetensors": names[10:]}
    for file, part in parts.items():
        write(tmp_path / file, {name: tensors[name] for name in part})
    weight_map = {name: file for file, part in parts.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert_same(load_vision(tmp_path, MLP), tower)


@pytest.mark.slow
def test_published_shapes_need_no_config(tmp_path: Path) -> None:
    tower = load_vision(None, VisionConfig(name="s", embed_dim=384, depth=12, num_heads=6, mlp_dim=1536, position_grid=(4, 4)), seed=0)
    assert load_vision(write(tmp_path / "s.npz", tensors_of(tower, VISION_NAMINGS[0], ""))).config.num_heads == 6
