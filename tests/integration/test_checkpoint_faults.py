"""What a weight file that is not what it should be gets: one sentence that names the file, the key and what was expected.

Nothing in a file is ever run, and no tower comes out of a file that is not whole.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tips_bench.errors import UserError
from tips_bench.models.configs import TextConfig, VisionConfig, text_config, vision_config
from tips_bench.models.files.checkpoints import export_huggingface, load_text, load_vision, save_checkpoint, tensors_of
from tips_bench.models.files.formats import TEXT_NAMINGS, VISION_NAMINGS

CONFIG = VisionConfig(name="tiny-b", embed_dim=24, depth=2, num_heads=3, mlp_dim=48, position_grid=(2, 2))
TEXT = TextConfig(name="tiny-b", embed_dim=24, depth=2, num_heads=3, mlp_dim=48, vocab_size=20)
Arrays = dict[str, np.ndarray]


def arrays() -> Arrays:
    """An image tower in official PyTorch names."""
    return {name: tensor.numpy() for name, tensor in tensors_of(load_vision(None, CONFIG, seed=0), VISION_NAMINGS[0], "").items()}


def text_arrays() -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors_of(load_text(None, TEXT, seed=0), TEXT_NAMINGS[0], "").items()}


def write(path: Path, content: Arrays) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
    else:
        save_file({name: torch.from_numpy(array) for name, array in content.items()}, path)
    return path


def message(load: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(*args, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_a_missing_tensor_is_named_with_its_shape(container: str, tmp_path: Path) -> None:
    content = arrays()
    for name in arrays():
        path = write(tmp_path / f"weights.{container}", {key: value for key, value in content.items() if key != name})
        found = message(load_vision, path, CONFIG)
        assert str(path) in found and f" {name}: " in found and str(list(content[name].shape)) in found and "tiny-b" in found


@pytest.mark.parametrize("name", ["head.weight", "blocks.2.norm1.weight", "blocks.0.mlp.w12.weight", "vision.extra"])
def test_a_tensor_too_many_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "weights.npz", arrays() | {name: np.zeros(3, np.float32)})
    found = message(load_vision, path, CONFIG)
    assert str(path) in found and name in found and "unexpected" in found


@pytest.mark.parametrize("container", ["npz", "safetensors"])
@pytest.mark.parametrize("name", ["pos_embed", "blocks.1.attn.qkv.weight", "norm.bias", "register_tokens"])
def test_a_wrong_shape_is_named_beside_the_expected_one(name: str, container: str, tmp_path: Path) -> None:
    content = arrays()
    wanted = content[name].shape
    content[name] = np.concatenate([content[name], content[name]], axis=-1)
    path = write(tmp_path / f"weights.{container}", content)
    found = message(load_vision, path, CONFIG)
    assert f"{path}: {name}: the shape is {list(content[name].shape)} where {list(wanted)} is expected" in found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_a_value_that_is_not_finite_is_found(value: float, container: str, tmp_path: Path) -> None:
    content = arrays()
    content["blocks.1.mlp.fc1.bias"] = content["blocks.1.mlp.fc1.bias"].copy()
    content["blocks.1.mlp.fc1.bias"][5] = value
    path = write(tmp_path / f"weights.{container}", content)
    assert f"{path}: blocks.1.mlp.fc1.bias: 1 of 48 values are NaN or infinite" in message(load_vision, path, CONFIG)


def test_weights_of_another_size_are_refused_and_both_sizes_named(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.npz", arrays())
    found = message(load_vision, path, vision_config("tipsv2-b14"))
    assert "missing" in found and "'tipsv2-b14'" in found and str(path) in found
    found = message(load_vision, path, replace(CONFIG, embed_dim=48, name="wider"))
    assert "is expected for 'wider'" in found


def test_a_text_tower_given_for_an_image_tower_is_told_apart(tmp_path: Path) -> None:
    text = write(tmp_path / "text.npz", text_arrays())
    assert "no image tower in this file: it holds a text tower" in message(load_vision, text, CONFIG)
    vision = write(tmp_path / "vision.npz", arrays())
    assert "no text tower in this file: it holds an image tower" in message(load_text, vision, TEXT)


def test_weights_of_another_model_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "resnet.safetensors", {"layer1.0.conv1.weight": np.zeros((3, 3), np.float32)})
    found = message(load_vision, path, CONFIG)
    assert "no image tower" in found and "layer1.0.conv1.weight" in found and "PyTorch" in found


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    target, path = tmp_path / "ran", tmp_path / "weights.npz"
    path.write_bytes(pickle.dumps(Bomb(target)))
    assert "never loaded" in message(load_vision, path, CONFIG)
    torch.save({"pos_embed": torch.zeros(3), "bomb": Bomb(target)}, tmp_path / "weights.pt")
    assert "not an .npz" in message(load_vision, tmp_path / "weights.pt", CONFIG)
    np.savez(tmp_path / "objects.npz", **arrays(), bomb=np.array([Bomb(target)], dtype=object))
    assert f"{tmp_path / 'objects.npz'}: bomb: it holds pickled Python objects" in message(load_vision, tmp_path / "objects.npz", CONFIG)
    np.save(tmp_path / "one.npy", np.zeros(3))
    assert "single array (.npy)" in message(load_vision, tmp_path / "one.npy", CONFIG)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"hello world", "neither an .npz nor a .safetensors"),
        (b"PK\x03\x04 and then nothing", "damaged or cut short"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged or cut short"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "no image tower"),
    ],
)
def test_a_file_that_holds_no_weights_says_what_it_holds(content: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    found = message(load_vision, path, CONFIG)
    assert part in found and str(path) in found


def test_a_zip_of_pictures_is_no_npz(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("cat.jpg", b"")
    assert "'cat.jpg'" in message(load_vision, tmp_path / "weights.npz", CONFIG)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_packed_another_way_is_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.npz", "w", method) as archive:
        archive.writestr("pos_embed.npy", b"")
    assert "packed as NumPy never does" in message(load_vision, tmp_path / "weights.npz", CONFIG)


def test_a_name_that_would_steer_a_terminal_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.safetensors", arrays() | {"a\x1b[2J": np.zeros(1, np.float32)})
    assert r"\x1b" in message(load_vision, path, CONFIG)


@pytest.mark.parametrize("container", ["npz", "safetensors"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_file_cut_short_anywhere_is_a_user_error(share: float, container: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"weights.{container}", arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert str(path) in message(load_vision, path, CONFIG)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 0.9999), value=st.integers(0, 255))
@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_a_changed_byte_gives_a_tower_or_a_user_error_and_nothing_else(place: float, value: int, container: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"weights.{container}", arrays())
    whole = bytearray(path.read_bytes())
    whole[int(place * len(whole))] = value
    path.write_bytes(whole)
    try:
        load_vision(path, CONFIG)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.complex64])
@pytest.mark.parametrize("container", ["npz", "safetensors"])
def test_values_that_are_no_real_numbers_are_refused(dtype: type, container: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"weights.{container}", arrays() | {"norm.bias": np.zeros(24, dtype)})
    assert f"{path}: norm.bias: it holds" in message(load_vision, path, CONFIG)


def test_a_path_that_is_nothing_or_a_folder_without_weights(tmp_path: Path) -> None:
    assert "no such file" in message(load_vision, tmp_path / "none.npz", CONFIG)
    assert "neither model.safetensors nor model.safetensors.index.json" in message(load_vision, tmp_path, CONFIG)


def test_random_weights_without_a_seed_and_a_file_with_one() -> None:
    assert "a config and a seed" in message(load_vision, None, CONFIG)
    assert "a config and a seed" in message(load_vision, None, None, seed=0)
    assert "seed = 3 would do nothing" in message(load_vision, "weights.npz", CONFIG, seed=3)


@pytest.mark.parametrize(
    "index", ['{"weight_map": 3}', '{"weight_map": {"pos_embed": "../x.safetensors"}}', '{"weight_map": {"a": "gone.safetensors"}}', "["]
)
def test_an_index_of_shards_that_leads_nowhere(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in message(load_vision, tmp_path, CONFIG)


def change(path: Path, *keys: str, to: Any) -> None:
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("keys", "value", "part"),
    [
        (("vision_config", "num_attention_heads"), 5, "5 heads do not divide the width 24"),
        (("vision_config", "num_attention_heads"), "three", "vision_config.num_attention_heads: 'three' is not a positive number"),
        (("vision_config", "num_attention_heads"), 2.5, "vision_config.num_attention_heads: 2.5 is not a whole number"),
        (("vision_config", "hidden_act"), "relu", "vision_config.hidden_act: there is no activation named 'relu'"),
        (("vision_config",), [1], "vision_config: it is of type list"),
        (("temperature_init_value",), -1, "temperature_init_value: -1 is not a positive number"),
    ],
)
def test_a_config_beside_the_weights_that_says_nonsense(keys: tuple[str, ...], value: Any, part: str, tmp_path: Path) -> None:
    export_huggingface(tmp_path, load_vision(None, CONFIG, seed=0), load_text(None, TEXT, seed=0))
    change(tmp_path / "config.json", *keys, to=value)
    assert part in message(load_vision, tmp_path)


def test_a_config_that_contradicts_the_one_asked_for(tmp_path: Path) -> None:
    export_huggingface(tmp_path, load_vision(None, CONFIG, seed=0), load_text(None, TEXT, seed=0))
    found = message(load_vision, tmp_path, replace(CONFIG, num_heads=4))
    assert "num_heads = 3 where 4 is expected for 'tiny-b'" in found
    save_checkpoint(tmp_path / "own.safetensors", text=load_text(None, TEXT, seed=0))
    assert "depth = 2 where 12 is expected" in message(load_text, tmp_path / "own.safetensors", replace(TEXT, depth=12))


def test_a_shape_without_heads_asks_for_a_config(tmp_path: Path) -> None:
    assert "number of heads is not in the file" in message(load_vision, write(tmp_path / "weights.npz", arrays()))


@pytest.mark.parametrize("metadata", ["3", "{", '{"text": {}}', '{"vision": 3}', '{"vision": {"name": "x"}}', '{"vision": {"embed": 3}}'])
def test_our_own_file_with_a_broken_config(metadata: str, tmp_path: Path) -> None:
    tensors = {f"vision.{name}": torch.from_numpy(array) for name, array in arrays().items()}
    save_file(tensors, tmp_path / "own.safetensors", metadata={"tips-bench/weights/1": metadata})
    assert f"{tmp_path / 'own.safetensors'}: metadata tips-bench/weights/1" in message(load_vision, tmp_path / "own.safetensors")


@pytest.mark.parametrize("value", [np.float32(-0.1), np.float32(0), np.zeros(3, np.float32), np.float32("nan")])
def test_a_temperature_that_is_none(value: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "text.npz", text_arrays() | {"temperature": value})
    assert f"{path}: temperature" in message(load_text, path, TEXT)


def test_what_transformers_cannot_state_is_not_exported(tmp_path: Path) -> None:
    text = load_text(None, TEXT, seed=0)
    for change_, part in (
        ({"position_grid": (2, 3)}, "2 x 3"),
        ({"ffn": "swiglu", "mlp_dim": 44}, "44 to 48"),
        ({"embed_dim": 27}, "27 and 24 wide"),
    ):
        found = message(export_huggingface, tmp_path / "export", load_vision(None, replace(CONFIG, **change_), seed=0), text)
        assert part in found
    assert not (tmp_path / "export").exists()


def test_a_folder_that_takes_no_file_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, not a folder")
    assert "cannot write" in message(save_checkpoint, tmp_path / "blocked" / "model.safetensors", vision=load_vision(None, CONFIG, seed=0))
    assert [path.name for path in tmp_path.iterdir()] == ["blocked"]


def test_a_published_text_size_of_another_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "text.npz", text_arrays())
    assert "'tips-s14'" in message(load_text, path, text_config("tips-s14"))
