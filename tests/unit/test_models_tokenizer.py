"""The tokenizer, on a SentencePiece model trained here on a few sentences."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sentencepiece
import torch

from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer

SENTENCE = "a photo of the small large grey cat dog panda sleeping running under above beside red table chair window tree"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    rng = random.Random(0)
    (folder / "text.txt").write_text("\n".join(" ".join(rng.choices(SENTENCE.split(), k=8)) for _ in range(300)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def test_ids_are_those_of_sentencepiece_on_text_whose_ascii_letters_are_lowered(model: Path) -> None:
    texts = ["A Photo of the CAT", "Two pandas: Été, 9 chairs?", "dog"]
    lowered = ["a photo of the cat", "two pandas: Été, 9 chairs?", "dog"]
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ids, paddings = Tokenizer(model)(texts)
    assert ids.shape == paddings.shape == (3, 64) and ids.dtype == paddings.dtype == torch.int64
    for row, text in enumerate(lowered):
        wanted = reference.encode(text, add_bos=False, add_eos=False)
        assert ids[row].tolist() == wanted + [0] * (64 - len(wanted))
        assert paddings[row].tolist() == [0] * len(wanted) + [1] * (64 - len(wanted))


def test_a_long_text_is_cut_and_neither_end_is_marked(model: Path) -> None:
    tokenizer = Tokenizer(model)
    ids, paddings = tokenizer(["cat " * 100])
    assert paddings.sum() == 0 and not set(ids[0].tolist()) & {0, 2, 3}
    assert torch.equal(tokenizer(["cat " * 100], max_tokens=5)[0], ids[:, :5])


def test_a_text_of_nothing_is_all_padding(model: Path) -> None:
    ids, paddings = Tokenizer(model)(["", "  "])
    assert ids.sum() == 0 and paddings.all()


def test_no_texts_make_no_rows(model: Path) -> None:
    assert [t.shape for t in Tokenizer(model)([])] == [(0, 64), (0, 64)]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04K\x01.", b"<html>404</html>", b"\x00" * 1000])
def test_a_file_that_is_no_model_is_a_user_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a SentencePiece model") as caught:
        Tokenizer(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_model_is_a_user_error(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a SentencePiece model"):
        Tokenizer(path)


def test_a_missing_model_or_a_folder_is_a_user_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.model", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            Tokenizer(path)


def test_a_lone_surrogate_is_read_as_an_unknown_sign(model: Path) -> None:
    ids, paddings = Tokenizer(model)(["cat \ud800"])
    assert (paddings == 0).any() and ids.min() >= 0
