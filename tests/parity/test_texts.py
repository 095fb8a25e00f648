"""The token ids that a text tower gets are those of the model's own processor, for odd texts of every kind."""

from __future__ import annotations

import importlib.util
import string
import types
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from tests.contract.test_encoders import make_folder
from tests.helpers.tokenizer_files import odd_texts, write_clip, write_gemma, write_spiece
from tips_bench import load_encoder
from tips_bench.encoders.open_clip import OpenClipEncoder
from tips_bench.encoders.transformers import TransformersEncoder
from tips_bench.errors import UserError

TEXTS = odd_texts()


def ids_of(folder: Path) -> torch.Tensor:
    encoder = load_encoder(folder, device="cpu")
    assert isinstance(encoder, TransformersEncoder)
    return encoder._tokenized(TEXTS)["input_ids"]


def test_there_are_two_hundred_odd_texts() -> None:
    assert len(set(TEXTS)) >= 200
    assert any(text != text.lower() for text in TEXTS) and any(not text.isascii() for text in TEXTS) and max(map(len, TEXTS)) > 300


def test_clip_reads_the_ids_of_its_processor(tmp_path: Path) -> None:
    write_clip(make_folder("clip", tmp_path))
    processor = transformers.CLIPProcessor.from_pretrained(tmp_path)
    wanted = processor(text=TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    assert torch.equal(ids_of(tmp_path), wanted)
    # the published ids of OpenAI's example, between the marks of beginning and end
    assert processor.tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_siglip_2_reads_lower_case_whatever_its_files_call_the_tokenizer(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")]
    for folder in folders:
        write_gemma(make_folder("siglip", folder), folder.name)
    tokenizer = Siglip2Tokenizer.from_pretrained(folders[0])
    wanted = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    as_written = transformers.AutoTokenizer.from_pretrained(folders[0])(TEXTS, padding="max_length", truncation=True, max_length=16)
    assert as_written["input_ids"] != wanted.tolist(), "Gemma's own tokenizer keeps the case"
    for folder in folders:
        assert torch.equal(ids_of(folder), wanted), folder.name
    assert bool((wanted == 1).any(1).all()), "every text keeps its end"


def test_siglip_reads_the_ids_of_its_processor_or_says_what_that_needs(tmp_path: Path) -> None:
    write_spiece(make_folder("siglip", tmp_path))
    if importlib.util.find_spec("google") is None:
        with pytest.raises(UserError, match=r"the package google\.protobuf is not installed.*protobuf"):
            ids_of(tmp_path)
        return
    tokenizer = transformers.SiglipTokenizer.from_pretrained(tmp_path)
    wanted = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    assert torch.equal(ids_of(tmp_path), wanted)
    bare = [text.translate(str.maketrans("", "", string.punctuation)) for text in TEXTS if text.isascii()]
    again = tokenizer(bare, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    assert torch.equal(again, wanted[[text.isascii() for text in TEXTS]]), "SigLIP's tokenizer leaves punctuation out"


def of_open_clip(name: str) -> OpenClipEncoder:
    """The text side of an encoder, without weights."""
    encoder = OpenClipEncoder.__new__(OpenClipEncoder)
    encoder.name, encoder._tokenizer = name, None
    encoder.spec = types.SimpleNamespace(has_text=True, name=name)  # type: ignore[assignment]
    return encoder


@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "PE-Core-B-16"])
def test_open_clip_models_read_the_ids_of_its_tokenizer(name: str) -> None:
    found = of_open_clip(name)._tokenized(TEXTS)
    assert torch.equal(found, open_clip.get_tokenizer(name)(TEXTS))
    assert found.shape[1] == open_clip.get_model_config(name)["text_cfg"]["context_length"]


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP2", "ViT-SO400M-14-SigLIP2-378"])
def test_open_clips_siglip_2_reads_lower_case_without_punctuation(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gemma(tmp_path)
    own = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *names, **options: own)
    plain = [" ".join(text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower().split()) for text in TEXTS]
    wanted = own(plain, padding="max_length", truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    unescaped = [place for place, text in enumerate(TEXTS) if text.isascii() and "&" not in text]  # open_clip also mends broken Unicode
    found = of_open_clip(name)._tokenized(TEXTS)
    assert torch.equal(found, open_clip.get_tokenizer(name)(TEXTS)) and found.shape[1] == 64
    assert torch.equal(found[unescaped], wanted[unescaped]) and len(unescaped) > 30
