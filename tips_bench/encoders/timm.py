"""Vision transformers of timm, at any grid.

A card's architecture is {name: NAME.TAG}; everything else is timm's own configuration. Reference: timm's `forward_intermediates`.
Global tokens are the model's prefix tokens (CLS, registers); a model without any that pools by attention (SigLIP) has the pooled token.
Where a model has no final norm, norm=True changes nothing. Axes: B batch, H W pixels, h w token grid, K global tokens, D feature.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.weights import Weights, check_finite, choose_weights, freeze, load_exactly, reading, require_package
from tips_bench.encoders.weights import resolve_device, resolve_dtype, seeded
from tips_bench.errors import UserError, unknown_name

WEIGHTS_FILE = "model.safetensors"


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
            weights=WeightsCard(hub=hub, file=WEIGHTS_FILE) if hub else None,
            **facts(model),
            licence=config.get("license") or "unknown",
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


def build(name: str) -> nn.Module:
    """The model with initial weights, no classifier, any image size. Errors: a name timm does not know; no constant grid of patches."""
    timm = require_package("timm")
    known = timm.list_models(pretrained=True)
    if name not in known and name.partition(".")[0] not in timm.list_models():
        raise unknown_name("timm model", name, known)
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, **_any_size(name))
    except RuntimeError as error:
        raise UserError(f"timm does not build it: {str(error).splitlines()[0]}", where=f"timm:{name}") from error
    if not has_grid(model):
        raise UserError(
            f"{type(model).__name__} has no constant grid of patches over all its blocks",
            where=f"timm:{name}",
            fix="Use a plain vision transformer, or wrap the model in a callable.",
        )
    return model


def _any_size(name: str) -> dict[str, Any]:
    """Options of timm that let a model take images of any size; NaFlex models do so by themselves."""
    return {} if name.startswith("naflex") else {"dynamic_img_size": True} if _takes_dynamic(name) else {}


def _takes_dynamic(name: str) -> bool:
    timm = require_package("timm")
    module = sys.modules[timm.model_entrypoint(name.partition(".")[0]).__module__]
    return module.__name__.rpartition(".")[2] in ("vision_transformer", "eva", "deit", "beit")


def has_grid(model: nn.Module) -> bool:
    """Whether all blocks of a model share one grid of patches."""
    return all(hasattr(model, name) for name in ("forward_intermediates", "blocks", "num_prefix_tokens", "patch_embed", "norm")) and hasattr(
        model.patch_embed, "patch_size"
    )


def facts(model: nn.Module) -> dict[str, Any]:
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
            raise UserError(f"{key} = {stated}, but the model has {value}", where=card.name, fix="Mend the card.")


def _pooled(model: nn.Module) -> bool:
    """Whether attention pooling stands in for a global token."""
    return not model.num_prefix_tokens and getattr(model, "attn_pool", None) is not None


def run(model: nn.Module, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool) -> ImageFeatures:
    """Features of a timm vision transformer; layers are in [0, depth)."""
    distinct = sorted(set(layers))
    final_BND, found = model.forward_intermediates(pixels_B3HW, indices=distinct, norm=norm, output_fmt="NCHW")
    grids = {layer: maps_BDhw.permute(0, 2, 3, 1) for layer, maps_BDhw in zip(distinct, found, strict=True)}
    globals_BKD = model.attn_pool(final_BND)[:, None] if _pooled(model) else final_BND[:, : model.num_prefix_tokens]
    return ImageFeatures(globals_BKD, [grids[layer] for layer in layers])


def load_file(model: nn.Module, path: Path) -> None:
    """Fill a model from a checkpoint of timm, or of the code it was converted from. Errors: anything that does not fit."""
    helpers = require_package("timm.models")
    with reading(path):
        state = helpers.load_state_dict(str(path), weights_only=True)
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = convert(state, model) if convert else state
    classifiers = model.pretrained_cfg.get("classifier") or ()
    load_exactly(model, state, path, [f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers)])
    check_finite(model, path)
