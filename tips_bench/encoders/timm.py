"""Vision transformers of timm, at any grid.

A card's architecture is {name: NAME.TAG}; everything else is timm's own configuration. Reference: timm's `forward_intermediates`, but for
the positions of DINOv2 without registers, which are resized as its authors do it.
Global tokens are the model's prefix tokens (CLS, registers); a model without any that pools by attention (SigLIP) has the pooled token.
Where a model has no final norm, norm=True changes nothing.

Networks in stages (ResNet, ConvNeXt, Swin) have another grid in each. One stage is taken by its stride, as timm's features_only gives it:
timm:NAME@16, or {name: NAME.TAG, stride: 16} in a card. It counts as one block without global tokens, and without a norm.

Axes: B batch, H W pixels, h w token grid, K global tokens, D feature.
"""

from __future__ import annotations

import difflib
import re
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
from tips_bench.encoders.last_block import Projections, dino_positions
from tips_bench.encoders.preprocessing import of_timm
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
PLAIN_BLOCKS = ("Block", "EvaBlock")  # of timm, with a norm before the attention
STAGED = ("resnet", "convnext", "swin_transformer", "swin_transformer_v2")  # those whose grid becomes coarser from stage to stage
DINOV2 = re.compile(r"vit_[a-z]+_patch14_dinov2")  # without registers


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
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> Encoder:
        chosen_device, chosen_dtype = resolve_device(device), resolve_dtype(dtype)
        require_package("timm")
        kind = StageEncoder if "stride" in card.architecture else cls
        return kind(card, choose_weights(card, weights), chosen_device, chosen_dtype)

    @classmethod
    def describe(cls, name: str) -> ModelCard:
        """The card of a timm model, "NAME.TAG" or "NAME.TAG@STRIDE", read from its configuration; no weights are made."""
        plain, _, number = name.partition("@")
        stride = _stride(number, f"timm:{name}") if "@" in name else None
        with torch.device("meta"):
            model = build(plain) if stride is None else build_stages(plain)
        config = model.pretrained_cfg
        hub, stated = config.get("hf_hub_id"), facts(model) if stride is None else stage_facts(model, stride, plain)
        return ModelCard(
            name=f"timm:{name}",
            title=f"{name} (timm)",
            source="timm",
            architecture={"name": plain} | ({} if stride is None else {"stride": stride}),
            weights=WeightsCard(hub=hub, file=SINGLE_FILE) if hub else None,
            preprocessing=of_timm(config, stated["patch_size"]),
            **stated,
            license=config.get("license") or "unknown",
            citation=str(config.get("paper_ids") or config.get("origin_url") or f"timm, {name}"),
            homepage=f"https://huggingface.co/{hub}" if hub else "https://github.com/huggingface/pytorch-image-models",
        )

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        return run(self.model, pixels_B3HW, layers, norm)

    def last_projections(self) -> Projections:
        return projections(self.model) or super().last_projections()


class StageEncoder(Encoder):
    """One stage of a timm network whose grid becomes coarser from stage to stage."""

    def __init__(self, card: ModelCard, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights.identity), device, dtype
        name, stride = architecture(card), _stride(card.architecture["stride"], card.name)
        with seeded(weights.seed or 0):
            model = build_stages(name)
        check_card(card, stage_facts(model, stride, name))
        if weights.path is not None:
            load_file(model, weights.path)
        self.stage, self.model = stage_of(model, stride, name), freeze(model, device, dtype)

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        (map_BDhw,) = self.model.forward_intermediates(pixels_B3HW, indices=[self.stage], stop_early=True, intermediates_only=True)
        patches_BhwD = map_BDhw.permute(0, 2, 3, 1)
        globals_BKD = patches_BhwD.new_zeros(len(patches_BhwD), 0, self.spec.embed_dim)
        return ImageFeatures(globals_BKD, [patches_BhwD] * len(layers), [globals_BKD] * len(layers))


def architecture(card: ModelCard) -> str:
    """The timm name in a card. Errors: other keys."""
    if "name" not in card.architecture or not set(card.architecture) <= {"name", "stride"}:
        raise UserError(f"architecture has the keys {sorted(card.architecture)}", where=card.name, fix="Give {name: NAME.TAG} of timm.")
    return str(card.architecture["name"])


def _stride(value: object, where: str) -> int:
    if not str(value).isdecimal():
        raise UserError(f"the stride {value!r} is not a whole number", where=where, fix="Give one of the network's strides, as NAME@16.")
    return int(str(value))


def build(name: str) -> Network:
    """The model with initial weights, no classifier, any image size. Errors: a name timm does not know; another kind of network."""
    timm = require_package("timm")
    plain, where, family = name.partition(".")[0], f"timm:{name}", _family(name)
    if family not in FAMILIES:
        other = f"Name one of its stages by its stride, as timm:{name}@16" if family in STAGED else "Use a plain vision transformer"
        raise UserError(
            f"timm's {family} networks have no grid of patches that is the same in every block at any image size",
            where=where,
            fix=f"{other}, or write a Python function that calls the model, and give --model MODULE:FUNCTION.",
        )
    model = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    if name.endswith(".dino") or DINOV2.fullmatch(plain):
        model._pos_embed = types.MethodType(_dino_positions, model)
    if not all(hasattr(model, needed) for needed in ("blocks", "num_prefix_tokens", "norm", "pretrained_cfg")):
        raise UserError(
            f"{type(model).__name__} is not a plain vision transformer",
            where=where,
            fix="Write a Python function that calls it, and give --model MODULE:FUNCTION.",
        )
    return model


def _family(name: str) -> str:
    """timm's module of a model, "vision_transformer". Errors: a name timm does not know."""
    timm = require_package("timm")
    plain, known = name.partition(".")[0], timm.list_models(pretrained=True)
    if name not in known and (name != plain or plain not in timm.list_models()):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        fix = f"Did you mean {' or '.join(near)}?" if near else "See timm.list_models()."
        raise UserError("timm has no such model", where=f"timm:{name}", fix=fix)
    return str(timm.model_entrypoint(plain).__module__.rpartition(".")[2])


def build_stages(name: str) -> Network:
    """A network in stages with initial weights, no classifier, any image size. Errors: another kind of network."""
    family = _family(name)
    if family not in STAGED:
        fix = f"Leave @STRIDE out: a stride is for {', '.join(STAGED)}."
        raise UserError(f"timm's {family} networks are not read by stages", where=f"timm:{name}", fix=fix)
    options = {"strict_img_size": False} if family.startswith("swin") else {}
    return require_package("timm").create_model(name, pretrained=False, num_classes=0, **options)


def stage_of(model: Network, stride: int, name: str) -> int:
    """The index of the last stage with a stride, in pixels. Errors: a stride that the network does not have."""
    strides = [int(info["reduction"]) for info in model.feature_info]
    if stride not in strides:
        fix = f"It has {', '.join(map(str, sorted(set(strides))))}."
        raise UserError(f"there is no stage with the stride {stride}", where=f"timm:{name}", fix=fix)
    return len(strides) - 1 - strides[::-1].index(stride)


def stage_facts(model: Network, stride: int, name: str) -> dict[str, Any]:
    """As `facts`, of one stage: its stride is the size of a patch."""
    config = model.pretrained_cfg
    return {
        "patch_size": stride,
        "embed_dim": int(model.feature_info[stage_of(model, stride, name)]["num_chs"]),
        "depth": 1,
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
        "resolution": config["input_size"][-1],
        "global_tokens": 0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


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


def projections(model: Network) -> Projections | None:
    """Norm and linear maps of the last block; None where it is no plain block with a norm before its attention."""
    last = model.blocks[-1]
    attention = getattr(last, "attn", None)
    if type(last).__name__ not in PLAIN_BLOCKS or attention is None:
        return None
    if getattr(attention, "qkv", None) is None:
        return Projections(last.norm1, lambda x_BND: (attention.q_proj(x_BND), attention.k_proj(x_BND), attention.v_proj(x_BND)))
    biases = None
    if getattr(attention, "q_bias", None) is not None:
        biases = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))

    def qkv(x_BND: Tensor) -> tuple[Tensor, ...]:
        mapped_BNE = attention.qkv(x_BND)
        return (mapped_BNE if biases is None else mapped_BNE + biases).chunk(3, -1)

    return Projections(last.norm1, qkv)


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
