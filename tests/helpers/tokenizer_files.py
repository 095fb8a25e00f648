"""Tokenizers in the files of real repositories: CLIP's own vocabulary, and small ones of SigLIP's and Gemma's kind; and odd texts."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import open_clip
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = ["a photo of a cat on the red sofa.", "The dog, and the CAT!", "two white plates (and one cup) on a table", "don't touch: 3.5 m"]
ODD = [
    "",
    " ",
    "a",
    "A",
    "A Photo of a CAT.",
    "it's",
    "IT'S ''quoted''",
    "don\u2019t",
    "a\tb\nc",
    "  two  spaces  ",
    "under_score",
    "3.14 + 2,718",
    "caf\u00e9 \u00c9COLE",
    "cafe\u0301",
    "\u0130stanbul",
    "STRASSE stra\u00dfe",
    "\u03a3\u0391\u03a3 \u03bf\u03b4\u03bf\u03c2",
    "\u6771\u4eac\u306e\u732b",
    "\u041a\u043e\u0448\u043a\u0430 \u0418 \u041f\u0421",
    "\U0001f431\U0001f3fd\u200d\U0001f680 emoji",
    "&amp; &lt;b&gt;",
    "<b>bold</b>",
    "{} {x}",
    "[MASK]",
    "#hash @at $5 50% ^_^",
    "\u00a0nbsp\u2003em",
    "e-mail: A@B.org",
    "\uff21\uff22\uff23",
    "\ufb01ne \ufb02at",
    "\u00bd \u00b2 \u2122",
    "\u202eright to left",
    "a" * 300,
    "word " * 120,
    "Cat, " * 90,
    "!?" * 50,
    "\u2581already",
    "tab\there",
]


def odd_texts(number: int = 240) -> list[str]:
    """The texts of ODD, and mixtures of them in random case."""
    draw, texts = random.Random(0), list(ODD)
    words = [word for text in [*ODD, *CORPUS] for word in text.split()]
    while len(texts) < number:
        text = draw.choice([" ", "  ", ", ", "-"]).join(draw.choices(words, k=draw.randint(1, 20)))
        texts.append(draw.choice([str, str.upper, str.title, str.lower])(text))
    return texts


def write_clip(folder: Path) -> None:
    """vocab.json and merges.txt, as openai/clip-vit-* has them, from the list of merges that open_clip ships."""
    path = Path(open_clip.tokenizer.default_bpe())
    merges = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    vocabulary = open_clip.tokenizer.SimpleTokenizer().encoder
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ids = {renamed.get(token, token): number for token, number in vocabulary.items()}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    _configure(folder, tokenizer_class="CLIPTokenizer", model_max_length=77)


def write_gemma(folder: Path, name: str = "GemmaTokenizer") -> None:
    """tokenizer.json, as google/siglip2-* has it: pairs of bytes, spaces as marks, an end but no beginning."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(CORPUS * 20, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "eos", "bos", "unk")}
    _configure(folder, tokenizer_class=name, padding_side="right", model_input_names=["input_ids"], add_bos_token=False, **names)


def write_spiece(folder: Path) -> None:
    """spiece.model, as google/siglip-* has it."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.lower() for text in CORPUS] * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        add_dummy_prefix=True,
        pad_id=-1,
        unk_id=2,
        bos_id=-1,
        eos_id=1,
        control_symbols=["<pad>"],
        minloglevel=2,
    )
    _configure(folder, tokenizer_class="SiglipTokenizer", model_input_names=["input_ids"], do_lower_case=True)


def _configure(folder: Path, **values: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
