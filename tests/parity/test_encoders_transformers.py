"""transformers' encoders against its own forward pass, and repositories that do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.contract.test_encoders import FAMILIES, make_folder
from tips_bench import load_encoder
from tips_bench.errors import UserError

WITH_TEXT = ("clip", "siglip")


def their_pixels(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    return (pixels - mean) / std


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_features_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(make_folder(family, tmp_path), device="cpu")
    model = transformers.AutoModel.from_pretrained(tmp_path, **({"mask_ratio": 0.0} if family == "vit_mae" else {})).eval()
    vision = model.vision_model if family in WITH_TEXT else model
    pixels = torch.rand(2, 3, 56, 56)
    options = {"noise": torch.arange(16.0).expand(2, -1)} if family == "vit_mae" else {}
    theirs = vision(their_pixels(pixels), output_hidden_states=True, **options)
    last_BND = theirs.last_hidden_state
    if family.startswith("clip"):
        last_BND = vision.post_layernorm(last_BND)
    found = encoder.encode_image(pixels, layers=(-1,))
    count = 0 if family.startswith("siglip") else encoder.spec.global_tokens
    assert torch.allclose(found.patches[0].flatten(1, 2), last_BND[:, count:], atol=1e-4)
    globals_BKD = theirs.pooler_output[:, None] if family.startswith("siglip") else last_BND[:, :count]
    assert torch.allclose(found.globals_BKD, globals_BKD, atol=1e-4)
    if theirs.hidden_states is not None:
        middle = encoder.encode_image(pixels, layers=(0, 1), norm=False).patches
        for patches, hidden_BND in zip(middle, theirs.hidden_states[1:3], strict=True):
            assert torch.allclose(patches.flatten(1, 2), hidden_BND[:, count:], atol=1e-4)


@pytest.mark.parametrize("family", WITH_TEXT)
@torch.inference_mode()
def test_text_embeddings_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    encoder = load_encoder(make_folder(family, tmp_path), device="cpu")
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 5, "cat": 6, "dog": 7, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path)
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    padding = "max_length" if family == "siglip" else True
    tokens = tokenizer(["a cat", "dog"], padding=padding, truncation=True, max_length=16, return_tensors="pt")
    tokens = {key: value for key, value in tokens.items() if key != "token_type_ids"}
    assert torch.allclose(encoder.encode_text(["a cat", "dog"]), model.get_text_features(**tokens).pooler_output, atol=1e-5)


def test_the_integers_in_old_checkpoints_of_clip_do_no_harm(tmp_path: Path) -> None:
    folder = make_folder("clip", tmp_path / "good")
    pixels = torch.rand(1, 3, 28, 28)
    wanted = load_encoder(folder, device="cpu").encode_image(pixels).patches[0]
    state = load_file(folder / "model.safetensors")
    for tower in ("text_model", "vision_model"):
        state[f"{tower}.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(load_encoder(folder, device="cpu").encode_image(pixels).patches[0], wanted)


def test_checkpoints_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    state = load_file(folder / "model.safetensors")
    key = "encoder.layer.0.mlp.fc1.bias"
    assert key in state
    cases = {
        "1 tensors are missing": {name: value for name, value in state.items() if name != key},
        "1 tensors are not part of the model, the first is 'extra'": state | {"extra": torch.zeros(1)},
        r"has shape \[7\]": state | {key: torch.zeros(7)},
        r"not finite|NaN": state | {key: torch.full_like(state[key], float("nan"))},
    }
    for message, bad in cases.items():
        save_file(bad, tmp_path / "bad.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=message):
            load_encoder(folder, weights=tmp_path / "bad.safetensors", device="cpu")


def test_folders_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config\.json, so the normalisation of pixels is unknown"):
        load_encoder(folder)
    for text, message in (
        ('{"model_type": "resnet"}', "model_type = 'resnet' is not supported"),
        ("{", "not JSON"),
        ("[]", "expected an object"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_encoder(folder)


def test_a_changed_config_is_another_encoder(tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "model")
    before = load_encoder(folder, device="cpu").spec
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    after = load_encoder(folder, device="cpu").spec
    assert after != before and after.weights_sha256 == before.weights_sha256
    (folder / "tokenizer.json").write_text("{}")
    assert load_encoder(folder, device="cpu").spec != after


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    load_encoder(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "48"}, "hidden_size = '48' is not a whole number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1 is not a whole number from 1 to"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers = 1000000 is not"),
        ({"hidden_act": "os.system"}, "transformers does not build it"),
        ({"dtype": "float3"}, "transformers does not read it"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "the weights are quantized"),
        ({"patch_size": [14, 16]}, r"patch_size = \[14, 16\] is not a whole number"),
    ],
)
def test_a_config_with_values_that_no_model_has_is_one_sentence(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=rf"config\.json: .*({message})") as caught:
        load_encoder(folder, device="cpu")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("mean", ["[1, 2]", '["a", "b", "c"]', "[0, 0, 1e9]", "{}", "[true, 0, 0]"])
def test_a_normalization_that_is_no_three_numbers_is_one_sentence(mean: str, tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    (folder / "preprocessor_config.json").write_text(f'{{"image_mean": {mean}, "image_std": [1, 1, 1]}}')
    with pytest.raises(UserError, match="are not three numbers each"):
        load_encoder(folder, device="cpu")


def test_loading_prints_neither_a_bar_nor_names_from_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    capfd.readouterr()
    load_encoder(folder, device="cpu")
    state = load_file(folder / "model.safetensors") | {"\x1b[2Jowned": torch.zeros(1)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 tensors are not part of the model"):
        load_encoder(folder, device="cpu")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("names", [["missing.safetensors"], ["a\0b"], ["\x1b[2J"], ["../x"]])
def test_an_index_of_shards_that_are_not_there_is_one_sentence(names: list[str], tmp_path: Path) -> None:
    folder = make_folder("dinov2", tmp_path / "good")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {str(number): name for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"shards are missing|points outside its folder"):
        load_encoder(folder, device="cpu")
