"""CLIP models of open_clip with their text towers, at any grid.

A card's architecture is {name: ARCH, pretrained: TAG} in open_clip's words. Its own vision transformer is run here block by block,
because its positions are for one image size; SigLIP and others whose image tower is timm's are run as timm models. Positions are
interpolated bicubically with antialiasing, as open_clip's resize_pos_embed does when it loads a checkpoint of another size.
Axes: B batch, H W pixels, P = h w patches, D feature, T texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders import timm as timm_source
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.last_block import Block, Projections, Tower
from tips_bench.encoders.preprocessing import of_open_clip
from tips_bench.encoders.values import Watched, pooled_alone, watched, with_values
from tips_bench.encoders.weights import (
    Weights,
    check_finite,
    choose_weights,
    freeze,
    load_exactly,
    reading,
    require_package,
    resolve_dtype,
    seeded,
)
from tips_bench.errors import UserError, unknown_name
from tips_bench.models.devices import resolve_device

WEIGHTS_FILE = "open_clip_model.safetensors"
Network = timm_source.Network  # or one of open_clip's: its attributes are declared nowhere, either


class OpenClipEncoder(Encoder):
    """Both towers of an open_clip model."""

    def __init__(self, card: ModelCard, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights.identity), device, dtype
        self.name, _ = architecture(card)
        # The trunk is built a second time, which also draws numbers.
        with seeded(weights.seed or 0):
            model = build(self.name)
            timm_source.check_card(card, facts(model, self.name))
            if weights.path is not None:
                _load_file(model, weights.path)
            if hasattr(model.visual, "trunk"):
                model.visual.trunk = _any_size(model.visual.trunk, self.name)
        self.model = freeze(model, device, dtype)
        self.has_values = card.has_text and pooling(model.visual) in ("tok", "token", "map")
        self._tokenizer: Callable[[list[str]], Tensor] | None = None

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> OpenClipEncoder:
        chosen_device, chosen_dtype = resolve_device(device), resolve_dtype(dtype)
        require_package("open_clip")
        return cls(card, choose_weights(card, weights), chosen_device, chosen_dtype)

    @classmethod
    def describe(cls, text: str) -> ModelCard:
        """The card of "ARCH/TAG", from open_clip's configuration; no weights are made."""
        name, _, tag = text.partition("/")
        config = pretrained(name, tag)
        with torch.device("meta"):
            model = build(name, "meta")
        hub, stated = config["hf_hub"].rstrip("/"), facts(model, name)
        return ModelCard(
            name=f"open_clip:{text}",
            title=f"{name}, {tag} (open_clip)",
            source="open_clip",
            architecture={"name": name, "pretrained": tag},
            weights=WeightsCard(hub=hub, file=WEIGHTS_FILE),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            has_text=True,
            preprocessing=of_open_clip(config, stated["resolution"], stated["patch_size"]),
            **stated,
            license="unknown",
            citation=f"open_clip, {name}, {tag}",
            homepage=f"https://huggingface.co/{hub}",
        )

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        visual = self.model.visual
        trunk = getattr(visual, "trunk", None)
        with watched((trunk.blocks if trunk else visual.transformer.resblocks)[-1], "attn_mask") as last:
            found = timm_source.run(trunk, pixels_B3HW, layers, norm) if trunk else run(visual, pixels_B3HW, layers, norm)
        final = self.spec.depth - 1
        if not values or final not in layers:
            return found
        return with_values(found, layers, final, self._values(last, found.patches[layers.index(final)].flatten(1, 2)))

    def _values(self, last: Watched, normed_BPD: Tensor) -> Tensor:
        """[B,P,D] after the tower's projection. normed_BPD: the last block's patches after the final norm."""
        visual = self.model.visual
        if not hasattr(visual, "trunk"):
            values_BPD = visual.ln_post(last.alone()[:, 1:])
            return values_BPD if visual.proj is None else values_BPD @ visual.proj
        trunk = visual.trunk
        pooled = trunk.global_pool == "map"
        tokens_BPD = normed_BPD if pooled else trunk.norm(last.alone())[:, trunk.num_prefix_tokens :]
        return pooled_alone(lambda token_B1D: visual.head(trunk.forward_head(token_B1D)), tokens_BPD)

    def last_projections(self) -> Projections:
        visual = self.model.visual
        if hasattr(visual, "trunk"):
            return timm_source.projections(visual.trunk) or super().last_projections()
        last = visual.transformer.resblocks[-1]
        if not isinstance(last.attn, nn.MultiheadAttention):
            return super().last_projections()
        return Projections(last.ln_1, _qkv(last.attn))

    def tower_parts(self) -> Tower:
        visual = self.model.visual
        if not self.spec.has_text or hasattr(visual, "trunk") or pooling(visual) != "tok":
            return super().tower_parts()
        last = visual.transformer.resblocks[-1]
        if not isinstance(last.attn, nn.MultiheadAttention):
            return super().tower_parts()
        table_ND, table_grid = visual.positional_embedding, visual.grid_size
        return Tower(
            module=visual,
            embed=visual.conv1,
            class_token_D=visual.class_embedding,
            positions_ND=table_ND,
            resized=lambda grid: positions(table_ND, table_grid, grid),
            norm_before=visual.ln_pre,
            blocks=visual.transformer.resblocks[:-1],
            last=Block(
                norm=last.ln_1,
                qkv=_qkv(last.attn),
                heads=last.attn.num_heads,
                out=lambda x_BND: last.ls_1(last.attn.out_proj(x_BND)),
                feed_forward=lambda x_BND: last.ls_2(last.mlp(last.ln_2(x_BND))),
            ),
            finish=lambda x_BND: visual.ln_post(x_BND) if visual.proj is None else visual.ln_post(x_BND) @ visual.proj,
        )

    @property
    def embeddings(self) -> int:
        """E: the tower's one output."""
        return int(self.spec.has_text)

    def _embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,1,D] after the tower's own pooling and projection."""
        visual = self.model.visual
        if hasattr(visual, "trunk"):
            return visual(pixels_B3HW)[:, None]
        if visual.pool_type != "tok":
            raise UserError(f"its tower pools by {visual.pool_type!r}, not by its token", where=self.spec.name, fix="Use another model.")
        cls_B1D = run(visual, pixels_B3HW, (), True).globals_BKD
        return cls_B1D if visual.proj is None else cls_B1D @ visual.proj

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> Tensor:
        """[T,D] text embeddings after the projection, not normalised."""
        return self.model.encode_text(self._tokenized(texts).to(self.device))

    def cut_texts(self, texts: list[str]) -> int:
        """How many of the texts are longer than the context of the text tower: its last token is then the end's, where a word would be."""
        cut_TL = self._tokenized(texts)
        whole_TL = self._tokenized(texts, 1 + cut_TL.shape[1])
        return int((cut_TL != whole_TL[:, :-1]).any(1).sum())

    def _tokenized(self, texts: list[str], *length: int) -> Tensor:
        if not self.spec.has_text:
            raise self._no_text()
        if self._tokenizer is None:
            try:
                self._tokenizer = require_package("open_clip").get_tokenizer(self.name)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"its tokenizer cannot be loaded: {str(error).splitlines()[0]}",
                    where=self.spec.name,
                    fix="Connect to the internet, so that it can be downloaded.",
                ) from error
        return self._tokenizer(texts, *length)


def _qkv(attention: nn.MultiheadAttention) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return lambda x_BND: F.linear(x_BND, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)


def architecture(card: ModelCard) -> tuple[str, str]:
    """(ARCH, TAG) of a card. Errors: other keys, names open_clip does not know."""
    if set(card.architecture) != {"name", "pretrained"}:
        raise UserError(
            f"architecture has the keys {sorted(card.architecture)}", where=card.name, fix="Give {name: ARCH, pretrained: TAG}."
        )
    name, tag = str(card.architecture["name"]), str(card.architecture["pretrained"])
    pretrained(name, tag)
    return name, tag


def pretrained(name: str, tag: str) -> dict[str, Any]:
    """open_clip's configuration of a checkpoint. Errors: a name or tag that it does not know, or without a hub repository."""
    open_clip = require_package("open_clip")
    if name not in open_clip.list_models():
        raise unknown_name("open_clip architecture", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise UserError(
            f"{tag!r} is not a checkpoint of {name}", where="open_clip", fix=f"Use ARCH/TAG with one of {', '.join(tags) or 'none'}."
        )
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config.get("hf_hub"):
        raise UserError(f"{name}/{tag} has no repository on the Hugging Face hub", where="open_clip", fix="Choose another tag.")
    return config


def build(name: str, device: str = "cpu") -> Network:
    """The model with initial weights. Errors: an image tower without a plain grid of patches, a text tower whose config is not at hand."""
    open_clip = require_package("open_clip")
    # It warns, through the root logger, that no weights were loaded; they are loaded later, or meant to be random.
    logging.disable(logging.WARNING)
    try:
        model = open_clip.create_model(name, pretrained=None, load_weights=False, pretrained_hf=False, device=device)
    except OSError as error:
        raise UserError(
            f"its text tower needs a file: {str(error).splitlines()[0]}",
            where=f"open_clip:{name}",
            fix="Connect to the internet, so that it can be downloaded.",
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    visual = model.visual
    family = type(visual.trunk).__module__.rpartition(".")[2] if hasattr(visual, "trunk") else None
    if family not in timm_source.FAMILIES and not (
        isinstance(visual, open_clip.transformer.VisionTransformer) and visual.attn_pool is None
    ):
        raise UserError(
            f"its image tower, {type(getattr(visual, 'trunk', visual)).__name__}, has no plain grid of patches",
            where=f"open_clip:{name}",
            fix="Use a plain vision transformer.",
        )
    return model


def facts(model: Network, name: str) -> dict[str, Any]:
    """The fields of a card that the built model determines; the parameters are those of the image tower, as for every other card."""
    visual = model.visual
    parameters = sum(parameter.numel() for parameter in visual.parameters())
    if hasattr(visual, "trunk"):
        found = timm_source.facts(visual.trunk)
        stated = {key: found[key] for key in ("patch_size", "embed_dim", "depth", "global_tokens")}
        return stated | {"resolution": visual.image_size[0], "parameters": parameters}
    return {
        "patch_size": visual.patch_size[0],
        "embed_dim": visual.conv1.out_channels,
        "depth": len(visual.transformer.resblocks),
        "resolution": visual.image_size[0],
        "global_tokens": 1,
        "parameters": parameters,
    }


def pooling(visual: Network) -> str:
    """How the tower's output comes from its tokens: "tok" or "token" from CLS, "map" by attention, or otherwise."""
    return visual.trunk.global_pool if hasattr(visual, "trunk") else visual.pool_type


def run(visual: Network, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool) -> ImageFeatures:
    """Features of open_clip's own vision transformer; layers are in [0, depth)."""
    maps_BDhw = visual.conv1(pixels_B3HW)
    grid = tuple(maps_BDhw.shape[-2:])
    cls_B1D = visual.class_embedding.expand(len(pixels_B3HW), 1, -1)
    x_BND = torch.cat([cls_B1D, maps_BDhw.flatten(2).transpose(1, 2)], dim=1)
    x_BND = visual.ln_pre(x_BND + positions(visual.positional_embedding, visual.grid_size, grid))
    kept = {}
    for index, block in enumerate(visual.transformer.resblocks):
        x_BND = block(x_BND)
        if index in layers:
            kept[index] = visual.ln_post(x_BND) if norm else x_BND
    patches = [kept[layer][:, 1:].unflatten(1, grid) for layer in layers]
    return ImageFeatures(visual.ln_post(x_BND[:, :1]), patches, [kept[layer][:, :1] for layer in layers])


def positions(table_ND: Tensor, table_grid: tuple[int, int], grid: tuple[int, ...]) -> Tensor:
    """[N,D]: CLS and patch positions of a table resampled to another grid, in float32."""
    if tuple(table_grid) == grid:
        return table_ND
    table_1Dhw = table_ND[1:].float().unflatten(0, tuple(table_grid)).permute(2, 0, 1)[None]
    resized_1Dhw = F.interpolate(table_1Dhw, size=grid, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([table_ND[:1], resized_1Dhw[0].flatten(1).T.to(table_ND.dtype)])


def _any_size(trunk: Network, name: str) -> Network:
    """The same timm trunk, built so that it takes images of any size."""
    config = require_package("open_clip").get_model_config(name)["vision_cfg"]
    timm = require_package("timm")
    side = trunk.patch_embed.img_size[0]
    options = {"img_size": side} if side != timm.get_pretrained_cfg(config["timm_model_name"]).input_size[-1] else {}
    free = timm.create_model(
        config["timm_model_name"],
        num_classes=trunk.num_classes,
        global_pool=trunk.global_pool,
        dynamic_img_size=True,
        **options,
    )
    load_exactly(free, trunk.state_dict(), Path(f"open_clip:{name}"))
    return free


def _load_file(model: Network, path: Path) -> None:
    """Fill a model from a checkpoint of open_clip, or of the code it was converted from. Errors: anything that does not fit."""
    open_clip = require_package("open_clip")
    with reading(path):
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    check_finite(model, path)
