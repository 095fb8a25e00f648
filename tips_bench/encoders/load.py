"""From a name to an encoder. Listing and describing the cards of the zoo loads no torch.

load_encoder("tips-b14")                        a card of the zoo, or of the user's own folders
load_encoder("cards/mine.yaml")                 a card file
load_encoder("timm:vit_base_patch14_dinov2.lvd142m")
load_encoder("open_clip:ViT-B-16/laion2b_s34b_b88k")
load_encoder("hf:facebook/dinov2-base")         a repository of the Hugging Face hub
load_encoder("./tips-nano/")                    a folder in Hugging Face layout, or a weight file of TIPS
load_encoder("my_package.encoders:build")       a callable, see `tips_bench.encoders.user`
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tips_bench.cards import ModelCard, load_card
from tips_bench.catalog import card_files, find_card
from tips_bench.errors import UserError
from tips_bench.registry import ENCODERS

if TYPE_CHECKING:
    from tips_bench.encoders.base import Encoder

# What stands before the colon -> the source that describes what stands after it.
PREFIXES = {"hf": "transformers"}  # the name of any other source is its prefix
NO_PREFIXES = ("tips", "transformers", "dinotxt", "callable", "pixels")  # sources that have none
TIPS_SUFFIXES = (".npz", ".safetensors")
WEIGHT_SUFFIXES = (*TIPS_SUFFIXES, ".pt", ".pth", ".ckpt", ".bin")
_AS_WEIGHTS = "Where it is of another architecture than TIPS, give that as --model (timm:NAME, or a card) and this file as --weights."
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def load_encoder(
    name_or_card: str | Path | ModelCard,
    weights: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    compiled: bool = False,
) -> Encoder:
    """A frozen encoder in evaluation mode.

    name_or_card: see the top of this module. weights: None = the card's, "random" or "random:SEED" = initialised from a seed, or a
    file. device: None = the first GPU where there is one. dtype: "fp32" (default) or "bf16". compiled: see `Encoder.compile`.
    Errors: an unknown name, a missing package, weights that do not fit or are not finite.
    """
    card = name_or_card if isinstance(name_or_card, ModelCard) else resolve_model_card(name_or_card)
    encoder = ENCODERS.get(card.source).from_card(card, weights, device, dtype)
    if compiled:
        encoder.compile()
    return encoder


def resolve_model_card(name: str | Path) -> ModelCard:
    """The card of a model, without its weights: read for a card's name or file, worked out for every other kind of name.

    Errors: an unknown name, with near ones; a card whose source is a callable, because reading a card never runs code.
    """
    text = str(name)
    prefix, separator, rest = text.partition(":")
    source = PREFIXES.get(prefix, prefix)
    if separator and source in ENCODERS.names() and prefix not in NO_PREFIXES:
        return ENCODERS.get(source).describe(rest)
    if is_local(text):
        return _describe_path(Path(os.path.expanduser(text)))
    if _CALLABLE.fullmatch(text) and text not in card_files("model"):
        return ENCODERS.get("callable").describe(text)
    card = load_card("model", text)
    if card.source == "callable":
        raise UserError(
            "source = callable: a card may not name code to run",
            where=find_card("model", text),
            fix="Give the callable itself, as --model MODULE:CALLABLE.",
        )
    if card.source not in ENCODERS.names():
        raise UserError(f"source = {card.source!r}", where=find_card("model", text), fix=f"Use one of {', '.join(ENCODERS.names())}.")
    return card


def is_local(text: str) -> bool:
    """Whether a model's name is the path of a folder or of a file, or looks like a weight file's."""
    if text.endswith((".yaml", ".yml")) or text in card_files("model"):
        return False
    return text.endswith(WEIGHT_SUFFIXES) or text.startswith((".", "/", "~")) or Path(text).exists()


def _describe_path(path: Path) -> ModelCard:
    if not path.exists():
        fix = f"Check the path. {_AS_WEIGHTS}" if path.suffix in WEIGHT_SUFFIXES else "Check the path; a name of the zoo has no slash."
        raise UserError("there is no such file or folder", where=path, fix=fix)
    if path.is_dir() and not _holds_tips(path):
        return ENCODERS.get("transformers").describe_folder(path)
    try:
        return ENCODERS.get("tips").describe_path(path)
    except UserError as error:
        if path.is_dir():
            raise
        # Advice for a TIPS file does not help with a file that PyTorch wrote.
        fixes = [error.fix, _AS_WEIGHTS] if path.suffix in TIPS_SUFFIXES else [_AS_WEIGHTS]
        raise UserError(error.problem, where=error.where, fix=" ".join(filter(None, fixes))) from error


def _holds_tips(folder: Path) -> bool:
    from tips_bench.encoders.huggingface import read_model_config

    config = folder / "config.json"
    return not config.is_file() or read_model_config(config).is_tips
