"""The captions of a sample, one chosen for each global token, and a tokenizer trained on captions.

A sample states its captions in a .json or a .txt member (caption_layouts.py). Of web captions the first is used.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import sentencepiece

from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.fetch import fetch
from tips_bench.files import atomic, digest
from tips_bench.models.tokenizer import lower
from tips_bench.training.caption_layouts import KINDS, stated
from tips_bench.training.recipe import CaptionKind, ContrastivePart, Recipe
from tips_bench.training.shards import Cursor, SampleFault
from tips_bench.training.sources import Order

EXTENSIONS = ("json", "txt")
TOKENIZER = "tokenizer.model"


@dataclass(frozen=True)
class Captions:
    """What a sample says of its image. empty: kinds of which one caption was empty and others were not."""

    web: list[str]
    synthetic: list[str]
    empty: tuple[str, ...] = ()


def read_captions(members: dict[str, bytes], wanted: Iterable[CaptionKind]) -> Captions:
    """The captions of a sample. Errors: SampleFault where one of the wanted kinds is missing or empty, or nothing can be read."""
    if not {*EXTENSIONS} & {*members}:
        raise SampleFault("no captions")
    given = _texts_of(stated(members.get("json"), members.get("txt")))
    kept = {kind: [text.strip() for text in texts if text.strip()] for kind, texts in given.items()}
    for kind in wanted:
        if not kept[kind]:
            raise SampleFault(f"empty {kind} caption" if given[kind] else f"no {kind} caption")
    return Captions(kept["web"], kept["synthetic"], tuple(f"empty {kind} caption" for kind in wanted if len(kept[kind]) < len(given[kind])))


def _texts_of(said: dict[str, Any]) -> dict[str, list[str]]:
    given = {}
    for kind in KINDS:
        texts = said.get(kind)
        texts = [] if texts is None else texts if isinstance(texts, list) else [texts]
        if not all(isinstance(text, str) for text in texts):
            raise SampleFault("broken captions")
        given[kind] = texts
    return given


def choose(captions: Captions, method: ContrastivePart, rng: np.random.Generator) -> list[str]:
    """One caption for each global token that the method trains with captions."""
    chosen = []
    for kinds in method.captions:
        kind = kinds[rng.integers(len(kinds))]
        texts = captions.web if kind == "web" else captions.synthetic
        chosen.append(texts[0 if kind == "web" or method.synthetic == "first" else rng.integers(len(texts))])
    return chosen


def wanted_kinds(method: ContrastivePart | None) -> list[CaptionKind]:
    """The kinds of caption that a sample must have."""
    named = set() if method is None else set(itertools.chain.from_iterable(method.captions))
    return sorted(named)


def tokenizer_file(recipe: Recipe, order: Order, folder: Path) -> Path:
    """The recipe's tokenizer: its file, fetched if need be, or one trained on the first captions of the run and kept in `folder`.

    One that is in the folder already is taken as it is, so that a resumed run keeps its own. Of several ranks let one come first.
    Errors: those of `fetch` and of `train_tokenizer`.
    """
    part = recipe.data.tokenizer
    if part.file is not None and "://" not in part.file:
        return Path(os.path.expanduser(part.file))
    if part.file is not None:
        name = unquote(urlsplit(part.file).path).rpartition("/")[2] or TOKENIZER
        return fetch(part.file, cache_root() / "tokenizers" / digest(part.file)[:12] / name, title="tokenizer")
    path = folder / TOKENIZER
    if not path.is_file():
        texts = itertools.islice(_texts(order, wanted_kinds(recipe.method.contrastive)), part.train_on)
        train_tokenizer(texts, path, recipe.model.text_config.vocab_size)
    return path


def _texts(order: Order, kinds: list[CaptionKind]) -> Iterator[str]:
    """The captions of one epoch, in its order."""
    for draw in order.draws(Cursor()):
        if draw.after.epoch:
            return
        try:
            captions = read_captions(draw.read(*EXTENSIONS), kinds)
        except SampleFault:
            continue  # counted when the sample is drawn to be trained on
        for kind in kinds:
            yield from captions.web[:1] if kind == "web" else captions.synthetic


def train_tokenizer(texts: Iterable[str], path: Path, vocab_size: int) -> None:
    """Write a SentencePiece model of `vocab_size` byte-pair pieces to `path`: the same for the same texts in the same order.

    Pieces as the TIPS tower expects them: 0 pads, nothing is added at the ends, texts lower-cased.
    Errors: too few texts for so many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=map(lower, texts),
            model_writer=model,
            model_type="bpe",  # "unigram" allows few more pieces than words, and cuts rare words up
            vocab_size=vocab_size,
            character_coverage=1.0,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,  # the sums of several would come in any order
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split()).rpartition("] ")[2]
        raise UserError(
            f"no tokenizer of {vocab_size} pieces can be trained on these captions ({reason})",
            where="model.text.vocab_size",
            fix="Give a smaller vocabulary or more captions.",
        ) from error
    with atomic(path) as temporary:
        temporary.write_bytes(model.getvalue())
