"""Embeddings of whole images beside texts: those that each library itself compares, and how many texts are cut."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
import transformers

from tests.contract.test_encoders import SMALL, TEXT, make_folder
from tests.helpers.text_models import small_tips
from tests.parity.test_encoders_open_clip import PE, SHAPE
from tests.parity.test_encoders_transformers import their_pixels
from tips_bench import load_encoder
from tips_bench.encoders.open_clip import OpenClipEncoder
from tips_bench.errors import UserError


def words(folder: Path) -> None:
    """A tokenizer of four words beside a model of transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 5, "cat": 6, "dog": 7, "[UNK]": 2}, unk_token="[UNK]"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=known, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.inference_mode()
def test_an_image_embedding_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(make_folder(family, tmp_path), device="cpu")
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    pixels = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    found_BED = encoder.embed_image(pixels)
    assert encoder.embeddings == found_BED.shape[1] == 1
    assert torch.allclose(found_BED[:, 0], model.get_image_features(their_pixels(pixels)).pooler_output, atol=1e-5)
    assert encoder.embed_image(pixels[..., :28]).shape == found_BED.shape


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_transformers_cuts_texts_beyond_its_positions(family: str, tmp_path: Path) -> None:
    assert TEXT["max_position_embeddings"] == 16
    encoder = load_encoder(make_folder(family, tmp_path), device="cpu")
    words(tmp_path)
    assert encoder.cut_texts(["a cat " * 8, "a cat " * 8 + "dog", "a", "cat " * 40]) == 2


@torch.inference_mode()
def test_an_image_embedding_is_that_of_open_clips_own_tower() -> None:
    torch.manual_seed(0)
    visual = open_clip.transformer.VisionTransformer(64, **SHAPE).eval()
    encoder = object.__new__(OpenClipEncoder)
    encoder.model = torch.nn.Module()
    encoder.model.visual = visual
    pixels = torch.rand(2, 3, 64, 64)
    assert torch.allclose(encoder._embed(pixels)[:, 0], visual(pixels), atol=1e-5)


@torch.inference_mode()
def test_an_image_embedding_is_that_of_open_clips_model_where_timm_has_the_tower_and_its_texts_are_cut_where_it_cuts() -> None:
    encoder = load_encoder(PE, weights="random", device="cpu")
    pixels = torch.rand(1, 3, 384, 384)
    found_BED = encoder.embed_image(pixels)
    assert encoder.embeddings == found_BED.shape[1] == 1
    assert torch.allclose(found_BED[:, 0], encoder.model.encode_image((pixels - 0.5) / 0.5), atol=1e-5)
    assert encoder.encode_text(["a cat"]).shape[1] == found_BED.shape[2]
    context = encoder.model.context_length
    fitting = " ".join(["cat"] * (context - 2))  # a start and an end are added
    assert encoder.cut_texts([fitting, f"{fitting} cat", "a cat", "cat " * 300]) == 2


def test_both_global_tokens_of_tips_can_meet_a_text_and_texts_are_cut_at_64_tokens(tmp_path: Path) -> None:
    encoder = load_encoder(small_tips(tmp_path), device="cpu")
    pixels = torch.rand(2, 3, 28, 42)
    assert encoder.embeddings == 2
    assert torch.equal(encoder.embed_image(pixels), encoder.encode_image(pixels).globals_BKD)
    assert encoder.encode_text(["red"]).shape[1] == encoder.spec.embed_dim
    length = encoder._text_tower()[1].lengths(["red wall"])[0]
    assert encoder.cut_texts(["red wall", "red wall " * (64 // length), "red wall " * (64 // length + 1)]) == 1


@pytest.mark.parametrize("name", ["tips-tiny-random", "pixels"])
def test_an_encoder_without_text_embeds_no_images_and_cuts_no_texts(name: str) -> None:
    encoder = load_encoder(name, device="cpu")
    assert encoder.embeddings == 0
    for call in (lambda: encoder.embed_image(torch.rand(1, 3, 28, 28)), lambda: encoder.cut_texts(["a"])):
        with pytest.raises(UserError, match="has no text tower"):
            call()


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert SMALL["image_size"] == 56
    encoder = load_encoder(make_folder("clip", tmp_path), device="cpu")
    with pytest.raises(UserError, match="not floating point"):
        encoder.embed_image(torch.zeros(1, 3, 56, 56, dtype=torch.uint8))
    with pytest.raises(UserError, match="not finite"):
        encoder.embed_image(torch.full((1, 3, 56, 56), float("nan")))
