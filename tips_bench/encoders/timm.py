"""Vision transformers of timm, at any grid.

A card's architecture is {name: NAME.TAG}; everything else is timm's own configuration. Reference: timm's `forward_intermediates`.
Global tokens are the model's prefix tokens (CLS, registers); a model without any that pools by attention (SigLIP) has the pooled token.
Where a model has no final norm, norm=True changes nothing. Axes: B batch, H W pixels, h w token grid, K global tokens, D feature.
"""

from __future__ import annotations

import difflib
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.hub import SINGLE_FILE
from tips_bench.encoders.last_block import dino_positions
from tips_bench.encoders.weights import (
    Weights,
    choose_weights,
    freeze,
    load_exactly,
    read_tensors,
    reading,
    require_package,
    resolve_dtype,
    seeded,
)
from tips_bench.errors import UserError
from tips_bench.models.devices import resolve_device

# A model of timm: its attributes are declared nowhere.
Network = Any
# The modules of timm whose models take images of any size.
FAMILIES = ("vision_transformer", "eva", "deit")


class TimmEncoder(Encoder):
    """A timm model without its classifier."""

    def __init__(self, card: ModelCard, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights.identity), device, dtype
        with seeded(weights.seed or 0):
            model = build(architecture(card))
        check_card(card, facts(model))
        if weights.path is not None:
            load_file(model, weights.path)
        self.model = freeze(model, device, dtype)

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> TimmEncoder:
        chosen_device, chosen_dtype = resolve_device(device), resolve_dtype(dtype)
        require_package("timm")
        return cls(card, choose_weights(card, weights), chosen_device, chosen_dtype)

    @classmethod
    def describe(cls, name: str) -> ModelCard:
        """The card of a timm model, read from its configuration; no weights are made."""
        with torch.device("meta"):
            model = build(name)
        config = model.pretrained_cfg
        hub = config.get("hf_hub_id")
        return ModelCard(
            name=f"timm:{name}",
            title=f"{name} (timm)",
            source="timm",
            architecture={"name": name},
            weights=WeightsCard(hub=hub, file=SINGLE_FILE) if hub else None,
            **facts(model),
            license=config.get("license") or "unknown",
            citation=str(config.get("paper_ids") or config.get("origin_url") or f"timm, {name}"),
            homepage=f"https://huggingface.co/{hub}" if hub else "https://github.com/huggingface/pytorch-image-models",
        )

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        return run(self.model, pixels_B3HW, layers, norm)


def architecture(card: ModelCard) -> str:
    """The timm name in a card. Errors: other keys."""
    if set(card.architecture) != {"name"}:
        raise UserError(f"architecture has the keys {sorted(card.architecture)}", where=card.name, fix="Give {name: NAME.TAG} of timm.")
    return str(card.architecture["name"])


def build(name: str) -> Network:
    """The model with initial weights, no classifier, any image size. Errors: a name timm does not know; another kind of network."""
    timm = require_package("timm")
    plain, where = name.partition(".")[0], f"timm:{name}"
    known = timm.list_models(pretrained=True)
    if name not in known and (name != plain or plain not in timm.list_models()):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UserError(
            "timm has no such model", where=where, fix=f"Did you mean {' or '.join(near)}?" if near else "See timm.list_models()."
        )
    family = timm.model_entrypoint(plain).__module__.rpartition(".")[2]
    if family not in FAMILIES:
        raise UserError(
            f"timm's {family} networks have no grid of patches that is the same in every block at any image size",
            where=where,
            fix=f"Use one of {', '.join(FAMILIES)}, or write a Python function that calls the model, and give --model MODULE:FUNCTION.",
        )
    model = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    if name.endswith(".dino"):
        model._pos_embed = types.MethodType(_dino_positions, model)
    if not all(hasattr(model, needed) for needed in ("blocks", "num_prefix_tokens", "norm", "pretrained_cfg")):
        raise UserError(
            f"{type(model).__name__} is not a plain vision transformer",
            where=where,
            fix="Write a Python function that calls it, and give --model MODULE:FUNCTION.",
        )
    return model


def _dino_positions(model: Network, x_BhwD: Tensor) -> Tensor:
    """[B,1+P,D]: CLS and patches with their positions, resized as DINO does it.

    Source: facebookresearch/dino 7c446df, vision_transformer.py:196-207.
    """
    cls_B1D = model.cls_token.expand(len(x_BhwD), -1, -1)
    return torch.cat([cls_B1D, x_BhwD.flatten(1, 2)], 1) + dino_positions(model.pos_embed[0], (x_BhwD.shape[1], x_BhwD.shape[2]))


def facts(model: Network) -> dict[str, Any]:
    """The fields of a card that timm's configuration and the model's shape determine."""
    config, patch = model.pretrained_cfg, model.patch_embed.patch_size
    if patch[0] != patch[1]:
        raise UserError(f"its patches are {patch[0]} x {patch[1]}, not square", where=f"timm:{config.get('architecture')}")
    return {
        "patch_size": patch[0],
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "resolution": config["input_size"][-1],
        "global_tokens": model.num_prefix_tokens or int(_pooled(model)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def check_card(card: ModelCard, found: Mapping[str, Any]) -> None:
    """A card's own numbers against those of the model that was built."""
    for key, value in found.items():
        stated = getattr(card, key)
        if stated is not None and stated != value:
            raise UserError(
                f"{key} = {stated}, but the model has {value}", where=card.name, fix=f"Fix the model card: set {key} to {value}."
            )


def _pooled(model: Network) -> bool:
    """Whether attention pooling stands in for a global token."""
    return not model.num_prefix_tokens and getattr(model, "attn_pool", None) is not None


def run(model: Network, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool) -> ImageFeatures:
    """Features of a timm vision transformer; layers are in [0, depth)."""
    distinct = sorted(set(layers))
    final_BND, found = model.forward_intermediates(
        pixels_B3HW, indices=distinct, norm=norm, output_fmt="NCHW", return_prefix_tokens=bool(model.num_prefix_tokens)
    )
    maps = dict(zip(distinct, found, strict=True))  # of (maps_BDhw, prefix_BKD) where there are prefix tokens
    grids = [(maps[layer][0] if model.num_prefix_tokens else maps[layer]).permute(0, 2, 3, 1) for layer in layers]
    if model.num_prefix_tokens:
        return ImageFeatures(final_BND[:, : model.num_prefix_tokens], grids, [maps[layer][1] for layer in layers])
    globals_BKD = model.attn_pool(final_BND)[:, None] if _pooled(model) else final_BND[:, :0]
    return ImageFeatures(globals_BKD, grids, [globals_BKD] * len(layers))


def load_file(model: Network, path: Path) -> None:
    """Fill a model from a checkpoint of timm, or of the code it was converted from. Errors: anything that does not fit."""
    helpers = require_package("timm.models")
    with reading(path):
        plain = path.is_file() and not path.name.endswith(".index.json")
        state = helpers.load_state_dict(str(path), weights_only=True) if plain else read_tensors(path)
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = convert(state, model) if convert else state
    classifiers = model.pretrained_cfg.get("classifier") or ()
    load_exactly(model, state, path, [f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers)])
