"""TIPS and TIPSv2: both towers of this project, from official files, Hugging Face folders or our own.

A card's architecture is {size: NAME} for a published one ("tips-b14"), or {vision: {...}, text: {...}} with the fields of
VisionConfig and TextConfig. Axes: B batch, H W pixels, h w token grid, T texts, D feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.huggingface import read_side
from tips_bench.encoders.last_block import Projections
from tips_bench.encoders.preprocessing import squashed
from tips_bench.encoders.weights import Weights, choose_weights, resolve_dtype, weights_path
from tips_bench.errors import UserError
from tips_bench.models.configs import MAX_TEXT_TOKENS, Kind, TextConfig, VisionConfig, text_config, vision_config
from tips_bench.models.devices import resolve_device
from tips_bench.models.files.checkpoints import load_text, load_vision
from tips_bench.models.files.huggingface import read_config
from tips_bench.models.files.inspection import find_layout, resolve_config
from tips_bench.models.files.weight_files import WeightFile, open_weights
from tips_bench.models.layers import Block
from tips_bench.models.tokenizer import Tokenizer

TOKENIZER_FILE = "tokenizer.model"
OFFICIAL_SIDES = {"highres": 448, "lowres": 224}  # pixels, by a word in the names of official v1 files


@dataclass(frozen=True)
class TextSource:
    """Where the text tower comes from, once a text is to be encoded. weights: a file, a card's entry or a seed."""

    weights: Path | WeightsCard | int
    config: TextConfig
    tokenizer: WeightsCard


class TipsEncoder(Encoder):
    """The image tower, and the text tower from the first text on."""

    has_values = True

    def __init__(self, card: ModelCard, weights: Weights, text: TextSource | None, device: torch.device, dtype: torch.dtype) -> None:
        vision, _ = configs(card)
        self.device, self.dtype, self._text_source = device, dtype, text
        self.spec = spec_from_card(card, weights.identity, has_text=text is not None)
        self.tower = load_vision(weights.path, vision, seed=weights.seed, device=device, dtype=dtype)
        self.tower.pack()
        self._text: tuple[torch.nn.Module, Tokenizer] | None = None

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> TipsEncoder:
        chosen_device, chosen_dtype = resolve_device(device), resolve_dtype(dtype)
        check_card(card)
        chosen = choose_weights(card, weights)
        return cls(card, chosen, _text_source(card, chosen, own=weights is None), chosen_device, chosen_dtype)

    @classmethod
    def describe_path(cls, path: Path) -> ModelCard:
        """The card of a weight file, or of a folder in Hugging Face layout, told from names and shapes alone."""
        with open_weights(path) as file:
            vision = _config_in(file, "vision")
            text = _config_in(file, "text") if _holds_text(file) else None
        tokenizer = (path if path.is_dir() else path.parent) / TOKENIZER_FILE
        text = text if tokenizer.is_file() else None
        side = _side(path, vision)
        return ModelCard(
            name=path.resolve().name if path.is_dir() else path.stem,
            title=f"TIPS from {path.name}",
            source="tips",
            architecture={"vision": vision.to_dict()} | ({"text": text.to_dict()} if text else {}),
            weights=WeightsCard(path=str(path)),
            tokenizer=WeightsCard(path=str(tokenizer)) if text else None,
            patch_size=vision.patch_size,
            embed_dim=vision.embed_dim,
            depth=vision.depth,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            resolution=side,
            preprocessing=squashed(side),
            global_tokens=vision.num_global_tokens,
            has_text=text is not None,
            license="unknown",
            citation="none: local weights",
            homepage=str(path),
        )

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        seen = self.tower(pixels_B3HW, layers=layers, norm=norm, values=values)
        patches = seen.patches
        if values:
            patches = [
                seen.value_patches_BhwD if layer == self.spec.depth - 1 else found for layer, found in zip(layers, patches, strict=True)
            ]
        return ImageFeatures(seen.globals_BKD, patches, seen.layer_globals)

    def last_projections(self) -> Projections:
        last = cast(Block, self.tower.blocks[-1])
        return Projections(last.norm1, lambda x_BND: last.attn.qkv(x_BND).chunk(3, -1))

    def compile(self) -> None:
        self.tower.unpack()  # torch.compile does not take packed weights
        super().compile()

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> Tensor:
        """[T,D] text embeddings, not normalised. Errors: an encoder without text."""
        tower, tokenizer = self._text_tower()
        ids_TL, paddings_TL = tokenizer(texts)
        return tower(ids_TL.to(self.device), paddings_TL.to(self.device))

    def cut_texts(self, texts: list[str]) -> int:
        """How many of the texts are longer than 64 tokens. Errors: an encoder without text."""
        _, tokenizer = self._text_tower()
        return sum(length > MAX_TEXT_TOKENS for length in tokenizer.lengths(texts))

    def _text_tower(self) -> tuple[torch.nn.Module, Tokenizer]:
        if self._text_source is None:
            raise self._no_text()
        if self._text is None:
            self._text = self._load_text(self._text_source)
        return self._text

    def _load_text(self, source: TextSource) -> tuple[torch.nn.Module, Tokenizer]:
        tokenizer = Tokenizer(weights_path(source.tokenizer, self.spec.name))
        if tokenizer.vocab_size > source.config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} pieces, the text tower {source.config.vocab_size} embeddings",
                where=self.spec.name,
            )
        seed = path = None
        if isinstance(source.weights, int):
            seed = source.weights
        else:
            path = weights_path(source.weights, self.spec.name) if isinstance(source.weights, WeightsCard) else source.weights
        return load_text(path, source.config, seed=seed, device=self.device, dtype=self.dtype), tokenizer


def configs(card: ModelCard) -> tuple[VisionConfig, TextConfig | None]:
    """The towers' shapes as a card's architecture states them. Errors: unknown or missing keys."""
    architecture, where = card.architecture, f"{card.name}: architecture"
    if set(architecture) == {"size"}:
        return vision_config(architecture["size"]), text_config(architecture["size"])
    if "vision" not in architecture or not set(architecture) <= {"vision", "text"}:
        raise UserError(f"the keys are {sorted(architecture)}", where=where, fix="Give {size: NAME}, or {vision: {...}, text: {...}}.")
    named = {kind: {"name": card.name, **values} for kind, values in architecture.items()}
    text = TextConfig.from_dict(named["text"], where=f"{where}.text") if "text" in named else None
    return VisionConfig.from_dict(named["vision"], where=f"{where}.vision"), text


def check_card(card: ModelCard) -> None:
    """The card's own numbers against the architecture it names."""
    vision, text = configs(card)
    for key, built in (
        ("patch_size", vision.patch_size),
        ("embed_dim", vision.embed_dim),
        ("depth", vision.depth),
        ("global_tokens", vision.num_global_tokens),
    ):
        if getattr(card, key) != built:
            raise UserError(
                f"{key} = {getattr(card, key)}, but its architecture has {built}",
                where=card.name,
                fix=f"Fix the model card: set {key} to {built}.",
            )
    if card.has_text and (text is None or card.tokenizer is None):
        fix = "Fix the model card: add architecture.text and tokenizer, or set has_text to false."
        raise UserError("has_text is true, but architecture.text or tokenizer is missing", where=card.name, fix=fix)


def _side(path: Path, vision: VisionConfig) -> int:
    """The native image side in pixels of weights by their path.

    As the preprocessor_config.json beside them states it; else as the names of the official v1 files do, whose grid of 16 x 16 positions
    stands for both resolutions (google-deepmind/tips 4db271d, pytorch/run_image_encoder_inference.py:71); else that of the positions.
    """
    stated = read_side(path if path.is_dir() else path.parent)
    if stated is not None:
        return stated
    named = next((side for word, side in OFFICIAL_SIDES.items() if word in path.name), None) if path.suffix == ".npz" else None
    return named or vision.position_grid[0] * vision.patch_size


def _text_source(card: ModelCard, weights: Weights, *, own: bool) -> TextSource | None:
    """The text tower that belongs to the image tower's weights. own: those are the card's own; others bring their text or have none."""
    _, config = configs(card)
    if not card.has_text or config is None or card.tokenizer is None:
        return None
    found: Path | WeightsCard | int | None = weights.seed
    if own and card.text_weights is not None:
        found = card.text_weights
    elif weights.path is not None:
        found = _text_beside(weights.path)
    return None if found is None else TextSource(found, config, card.tokenizer)


def _text_beside(path: Path) -> Path | None:
    """The text tower's file of an image tower's: the same one where it holds both, else the official name's other half."""
    sibling = path.with_name(path.name.replace("_vision", "_text"))
    if sibling != path and sibling.is_file():
        return sibling
    with open_weights(path) as file:
        return path if _holds_text(file) else None


@overload
def _config_in(file: WeightFile, kind: Literal["vision"]) -> VisionConfig: ...
@overload
def _config_in(file: WeightFile, kind: Literal["text"]) -> TextConfig: ...
def _config_in(file: WeightFile, kind: Kind) -> Any:
    """The shape of a tower in a file, from names, shapes and the config.json beside it."""
    return resolve_config(file, find_layout(file, kind), read_config(file.path.parent).of(kind), None)


def _holds_text(file: WeightFile) -> bool:
    try:
        find_layout(file, "text")
    except UserError:
        return False
    return True
