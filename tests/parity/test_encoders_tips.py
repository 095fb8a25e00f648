"""The TIPS encoder from a folder in Hugging Face layout against transformers, and its text beside its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from torch import nn

from tips_bench import load_encoder
from tips_bench.encoders.tips import TOKENIZER_FILE
from tips_bench.errors import UserError
from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.models.files.checkpoints import export_huggingface
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

VISION = VisionConfig(name="toy", embed_dim=48, depth=3, num_heads=4, mlp_dim=96, position_grid=(4, 4))
TEXT = TextConfig(name="toy", embed_dim=48, depth=2, num_heads=4, mlp_dim=96, vocab_size=60)
TEXTS = ["a cat on a sofa", "Two Dogs"]


def shake(tower: nn.Module) -> nn.Module:
    """Other than initial values everywhere, so that no parameter goes unnoticed."""
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return tower


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "toy"
    vision, text = (shake(kind.random(config, 1)) for kind, config in ((VisionTower, VISION), (TextTower, TEXT)))
    export_huggingface(folder, vision, text)
    corpus = ["a cat on a sofa", "two dogs by a chair", "the lamp is on the table", "a red book"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=27,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    return folder


def test_a_folder_is_an_encoder_with_the_images_of_transformers(folder: Path) -> None:
    encoder = load_encoder(f"{folder}/", device="cpu")
    assert encoder.spec.name == "toy" and encoder.spec.has_text and encoder.spec.resolution == 56
    model = transformers.Tipsv2Model.from_pretrained(folder).eval()
    pixels = torch.rand(2, 3, 56, 84)
    with torch.inference_mode():
        theirs = model.vision_model(pixels).last_hidden_state
    found = encoder.encode_image(pixels)
    assert torch.allclose(found.globals_BKD, theirs[:, :2], atol=1e-4)
    assert torch.allclose(found.patches[0].flatten(1, 2), theirs[:, 2:], atol=1e-4)


def test_its_texts_are_those_of_transformers(folder: Path) -> None:
    encoder = load_encoder(str(folder), device="cpu")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / TOKENIZER_FILE))
    ids = [pieces.encode(text.lower()) for text in TEXTS]
    padded = torch.tensor([row + [0] * (64 - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (64 - len(row)) for row in ids])
    model = transformers.Tipsv2Model.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = model.get_text_features(input_ids=padded, attention_mask=mask)
    theirs = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    assert torch.allclose(encoder.encode_text(TEXTS), theirs, atol=1e-4)


def test_the_value_path_stands_in_for_the_last_layer_only(folder: Path) -> None:
    encoder = load_encoder(str(folder), device="cpu")
    pixels = torch.rand(1, 3, 28, 28)
    plain, values = encoder.encode_image(pixels, layers=(0, 2)), encoder.encode_image(pixels, layers=(0, 2), values=True)
    with torch.inference_mode():
        wanted = encoder.tower(pixels, values=True).value_patches_BhwD
    assert torch.equal(plain.patches[0], values.patches[0])
    assert torch.equal(values.patches[1], wanted) and not torch.allclose(plain.patches[1], wanted)
    with pytest.raises(UserError, match="includes the final norm"):
        encoder.encode_image(pixels, values=True, norm=False)


def test_a_folder_without_a_tokenizer_has_no_text(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    encoder = load_encoder(tmp_path, device="cpu")
    assert not encoder.spec.has_text
    with pytest.raises(UserError, match="no text tower"):
        encoder.encode_text(TEXTS)


CARD = """
name: both
title: both
source: tips
architecture:
  vision: {{embed_dim: 48, depth: 3, num_heads: 4, mlp_dim: 96, position_grid: [4, 4]}}
  text: {{embed_dim: 48, depth: 2, num_heads: 4, mlp_dim: 96, vocab_size: 60}}
weights: {{path: {folder}/model.safetensors}}
text_weights: {{path: {folder}/model.safetensors}}
tokenizer: {{path: {folder}/tokenizer.model}}
patch_size: 14
embed_dim: 48
depth: 3
mean: [0, 0, 0]
std: [1, 1, 1]
resolution: 56
global_tokens: 2
has_text: true
license: none
citation: none
homepage: none
"""


def test_text_goes_with_the_weights_that_were_given(folder: Path, tmp_path: Path) -> None:
    card = tmp_path / "both.yaml"
    card.write_text(CARD.format(folder=folder))
    own = load_encoder(card, device="cpu").encode_text(TEXTS)
    assert torch.equal(own, load_encoder(card, weights=folder / "model.safetensors", device="cpu").encode_text(TEXTS))
    drawn = load_encoder(card, weights="random:2", device="cpu").encode_text(TEXTS)
    assert not torch.allclose(own, drawn)
    # Images of one checkpoint are never compared with texts of another.
    tower = VisionTower.random(VISION, 9)
    vision = tmp_path / "new_vision.npz"
    np.savez(vision, **{name: value.detach().numpy() for name, value in tower.named_parameters()})
    assert not load_encoder(card, weights=vision, device="cpu").spec.has_text


def test_the_other_half_of_an_official_pair_is_found_beside_it(folder: Path, tmp_path: Path) -> None:
    card = tmp_path / "both.yaml"
    card.write_text(CARD.format(folder=folder))
    (tmp_path / "x_vision.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "x_text.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    encoder = load_encoder(card, weights=tmp_path / "x_vision.safetensors", device="cpu")
    assert encoder.spec.has_text and encoder.encode_text(TEXTS).shape == (2, 48)


def test_a_tokenizer_with_more_pieces_than_embeddings_is_refused(folder: Path, tmp_path: Path) -> None:
    card = tmp_path / "both.yaml"
    card.write_text(CARD.format(folder=folder).replace("vocab_size: 60", "vocab_size: 20"))
    with pytest.raises(UserError, match="the tokenizer has 27 pieces, the text tower 20 embeddings"):
        load_encoder(card, weights="random", device="cpu").encode_text(TEXTS)
