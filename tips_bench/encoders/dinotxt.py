"""dino.txt (arXiv 2412.16334): a frozen image encoder, a head of a few blocks on its tokens, and a text tower.

A card's architecture is {backbone: MODEL, head: {depth: ..., num_heads: ...}, text: {embed_dim: ..., depth: ..., num_heads: ...}}. The
backbone is any other model, with the weights of its own card; `weights` are the head's and `text_weights` the text tower's, or one file
holds both. Formats: facebookresearch/dinov3 at commit 6876159, dinov3/hub/dinotxt.py:85-95, one file; facebookresearch/dinov2 at commit
b8931f7, dinov2/hub/dinotxt.py:52-61, two files.

The head's blocks follow the backbone's as layers of the encoder. An image's embedding is its CLS token beside the mean of its patches,
and a text's embedding has the same halves; single patches are compared with the second half.
Axes: B batch, h w token grid, N tokens, K global tokens, T texts, L tokens of a text, D feature.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.cards import ModelCard, Strict, parse
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures, spec_from_card
from tips_bench.encoders.load import load_encoder
from tips_bench.encoders.weights import (
    Weights,
    choose_weights,
    file_weights,
    freeze,
    load_exactly,
    read_checkpoint,
    require_package,
    resolve_dtype,
    seeded,
    weights_path,
)
from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.models.devices import resolve_device
from tips_bench.models.dinotxt import CausalTextConfig, CausalTextTower, TokenHead

# What the source calls a part of a name -> what it is called here.
_HEAD_NAMES = {r"^(blocks|block_list)\.": "blocks.", r"^ln_final\.": "norm."}
_TEXT_NAMES = {
    r"^backbone\.token_embedding\.": "token_embed.",
    r"^backbone\.positional_embedding$": "pos_embed",
    r"^backbone\.ln_final\.": "norm.",
    r"^head\.linear_projection\.": "proj.",
    r"^backbone\.blocks\.": "blocks.",
    r"\.attention_norm\.": ".norm1.",
    r"\.ffn_norm\.": ".norm2.",
    r"\.attention\.": ".attn.",
    r"\.feed_forward\.": ".mlp.",
}


class HeadShape(Strict):
    """Blocks of the head on image tokens, and their attention heads."""

    depth: int
    num_heads: int


class TextShape(Strict):
    """Shape of the text tower, whose embedding is twice as wide as a patch."""

    embed_dim: int
    depth: int
    num_heads: int


class Architecture(Strict):
    """A card's architecture. backbone: the name of a model, or the path of its card."""

    backbone: str
    head: HeadShape
    text: TextShape


class DinoTxtEncoder(Encoder):
    """A backbone, the head on its tokens, and the text tower."""

    def __init__(self, card: ModelCard, weights: Weights, text_weights: Weights, backbone: Encoder) -> None:
        shape = architecture(card)
        check_card(card, shape, backbone.spec)
        self.spec = replace(
            spec_from_card(card, weights.identity),
            config_sha256=digest(backbone.spec.weights_sha256, backbone.spec.config_sha256, text_weights.identity),
        )
        self.backbone, self.device, self.dtype = backbone, backbone.device, backbone.dtype
        self.head_depth = shape.head.depth
        with seeded(weights.seed or 0):
            head, text = build(card)
        if weights.path is not None and text_weights.path is not None:
            _load(head, weights.path, _head_state)
            _load(text, text_weights.path, _text_state)
        self.head, self.text = (freeze(module, self.device, self.dtype) for module in (head, text))
        self._tokenizer: Callable[..., Tensor] | None = None

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> DinoTxtEncoder:
        # A wrong device or precision is found before anything is downloaded.
        resolve_device(device)
        resolve_dtype(dtype)
        own = choose_weights(card, weights)
        text = own if own.path is None else _text_weights(card, own.path, asked=weights is not None)
        backbone = load_encoder(architecture(card).backbone, None if own.seed is None else own.identity, device, dtype)
        return cls(card, own, text, backbone)

    @property
    def embeddings(self) -> int:
        """E: the CLS token and the mean patch, side by side."""
        return 1

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        top, depth = self.backbone.spec.depth - 1, self.spec.depth
        below = tuple(layer for layer in layers if layer <= top)
        # The head reads the backbone's last layer after its norm.
        seen = self.backbone._encode(pixels_B3HW, (*below, top) if norm else (top,), True, False)
        plain = seen if norm or not below else self.backbone._encode(pixels_B3HW, below, False, False)
        grid, count = seen.patches[-1].shape[1:3], self.spec.global_tokens
        blocks = self.head(torch.cat([seen.layer_globals[-1], seen.patches[-1].flatten(1, 2)], dim=1))
        last_BND = self.head.norm(blocks[-1])
        found = {layer: (plain.patches[place], plain.layer_globals[place]) for place, layer in enumerate(below)}
        for layer in set(layers) - set(below):
            tokens_BND = blocks[layer - top - 1]
            if norm:
                tokens_BND = last_BND if layer == depth - 1 else self.head.norm(tokens_BND)
            found[layer] = tokens_BND[:, count:].unflatten(1, grid), tokens_BND[:, :count]
        return ImageFeatures(last_BND[:, :count], [found[layer][0] for layer in layers], [found[layer][1] for layer in layers])

    def _embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,1,2 D]: the CLS token beside the mean patch."""
        seen = self._encode(pixels_B3HW, (self.spec.depth - 1,), True, False)
        return torch.cat([seen.globals_BKD[:, 0], seen.patches[0].mean((1, 2))], dim=-1)[:, None]

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> Tensor:
        """[T,2 D] text embeddings, not normalized: the half for whole images, and the half for patches."""
        return self.text(self._tokenized(texts).to(self.device))

    def encode_patch_text(self, texts: list[str]) -> Tensor:
        """[T,D]: the half for patches (dinov3, notebooks/dinotxt_segmentation_inference.ipynb, "Prepare text features")."""
        return self.encode_text(texts)[:, self.spec.embed_dim :]

    def cut_texts(self, texts: list[str]) -> int:
        """How many of the texts are longer than the context of the text tower: its last token is then the end's, where a word would be."""
        cut_TL = self._tokenized(texts)
        whole_TL = self._tokenized(texts, 1 + cut_TL.shape[1])
        return int((cut_TL != whole_TL[:, :-1]).any(1).sum())

    def _tokenized(self, texts: list[str], length: int | None = None) -> Tensor:
        """[T,L] ids of CLIP's tokenizer, whose vocabulary dino.txt shares."""
        if self._tokenizer is None:
            self._tokenizer = require_package("open_clip").SimpleTokenizer()
        return self._tokenizer(texts, length or self.text.config.context)


def architecture(card: ModelCard) -> Architecture:
    """The architecture of a card. Errors: other keys."""
    return parse(Architecture, card.architecture, where=f"model {card.name}", prefix="architecture.")


def build(card: ModelCard) -> tuple[TokenHead, CausalTextTower]:
    """The head and the text tower of a card, with first weights."""
    shape = architecture(card)
    head = TokenHead(card.embed_dim, **shape.head.model_dump())
    return head, CausalTextTower(CausalTextConfig(**shape.text.model_dump(), out_dim=2 * card.embed_dim))


def check_card(card: ModelCard, shape: Architecture, backbone: EncoderSpec) -> None:
    """The card's own numbers against those of the backbone and the head. Errors: one that differs; a backbone without a CLS token."""
    if not backbone.global_tokens:
        raise UserError(f"the backbone {shape.backbone!r} has no CLS token", where=card.name, fix="Name another backbone.")
    stated = {key: getattr(backbone, key) for key in ("patch_size", "embed_dim", "mean", "std", "global_tokens", "pad")}
    for key, value in (stated | {"depth": backbone.depth + shape.head.depth, "has_text": True}).items():
        if getattr(card, key) != value:
            raise UserError(
                f"{key} = {getattr(card, key)}, but backbone and head have {value}",
                where=card.name,
                fix=f"Fix the model card: set {key} to {value}.",
            )


def _text_weights(card: ModelCard, path: Path, *, asked: bool) -> Weights:
    """The text tower's weights: those of the card, those beside a file that was asked for, or the same file."""
    if asked:
        beside = path.with_name(path.name.replace("_vision_head", "_text_encoder"))
        return file_weights(beside if beside.is_file() else path)
    return file_weights(path if card.text_weights is None else weights_path(card.text_weights, card.name))


def _load(module: nn.Module, path: Path, of: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    load_exactly(module, of(read_checkpoint(path)), path)


def _head_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The head's tensors by our names, from its own file or from the file that holds both."""
    named = _renamed(_part(state, "visual_model.head.", others=("text_model.", "logit_scale")), _HEAD_NAMES)
    for key in [key for key in named if re.search(r"\.w1\.(weight|bias)$", key)]:
        second = key.replace(".w1.", ".w2.")
        if second in named:
            named[key.replace(".w1.", ".w12.")] = torch.cat([named.pop(key), named.pop(second)])
    return named


def _text_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors by our names, from its own file or from the file that holds both."""
    return _renamed(_part(state, "text_model.", others=("visual_model.head.", "logit_scale")), _TEXT_NAMES)


def _part(state: dict[str, Tensor], prefix: str, others: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors under a prefix, without it, and whatever is not expected; all tensors where none has the prefix."""
    if not any(key.startswith(prefix) for key in state):
        return state
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if not key.startswith(others)}


def _renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Any]:
    for pattern, name in names.items():
        state = {re.sub(pattern, name, key): tensor for key, tensor in state.items()}
    return state
