"""Vision transformers of Hugging Face transformers, at any grid.

A card's architecture is {repo: OWNER/NAME, revision: ...} or {folder: PATH}; the rest is read from the repository's config.json. The
output of a block is taken by a hook, so that it is the residual stream in every family. TIPS repositories go to our own towers.
Axes: B batch, H W pixels, h w token grid, K global tokens, T texts, D feature.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.encoders.foreign import check_sizes, foreign, silent
from tips_bench.encoders.hub import SINGLE_FILE, hub_file, hub_model
from tips_bench.encoders.huggingface import CONFIG_FILE, PROCESSOR_FILES, read_model_config, read_normalization
from tips_bench.encoders.last_block import Block, Projections, Tower
from tips_bench.encoders.preprocessing import of_transformers
from tips_bench.encoders.values import Watched, pooled_alone, watched, with_values
from tips_bench.encoders.weights import (
    Weights,
    check_finite,
    choose_weights,
    freeze,
    prefix_fix,
    read_tensors,
    reading,
    require_package,
    resolve_dtype,
    seeded,
)
from tips_bench.errors import UserError
from tips_bench.files import digest, sha256
from tips_bench.models.devices import resolve_device


@dataclass(frozen=True)
class Family:
    """How transformers lays out one kind of model.

    blocks, norm: paths of the blocks and of the final norm. registers: whether register tokens follow CLS. cls: whether there is one; a
    model without has the token of its attention pooling. interpolate: whether it must be told to interpolate its positions.
    """

    blocks: str
    norm: str
    cls: bool = True
    registers: bool = False
    interpolate: bool = False


_DINOV2 = Family("encoder.layer", "layernorm")
_CLIP = Family("encoder.layers", "post_layernorm", interpolate=True)
_SIGLIP = Family("encoder.layers", "post_layernorm", cls=False, interpolate=True)
FAMILIES = {
    "dinov2": _DINOV2,
    "dinov2_with_registers": Family("encoder.layer", "layernorm", registers=True),
    "dinov3_vit": Family("model.layer", "norm", registers=True),
    "vit": Family("layers", "layernorm", interpolate=True),
    "vit_mae": Family("layers", "layernorm", interpolate=True),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}
WITH_TEXT = ("clip", "siglip")
TOKENIZER_FILES = ("tokenizer*.*", "vocab.*", "merges.txt", "spiece.model", "special_tokens_map.json", "added_tokens.json")
# Beginnings of names that a checkpoint may hold beyond the model, or lack, as they make no patch features. Old ones hold position_ids, too.
_UNUSED = ("decoder.", "classifier.", "mask_token", "vit.pooler.", "pooler.")


class TransformersEncoder(Encoder):
    """A model of transformers, with its text tower where it has one."""

    def __init__(self, card: ModelCard, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, weights.identity), device, dtype
        folder = _folder(card)
        config = _config(folder)
        self.family = FAMILIES[config.model_type]
        _check_card(card, _facts(config))
        self.spec = replace(self.spec, config_sha256=_config_sha256(folder, card))
        self.model = freeze(_build(config, weights, folder / CONFIG_FILE), device, dtype)
        self.vision = self.model.vision_model if config.model_type in WITH_TEXT else self.model
        self.has_values = self.spec.has_text and (self.family.cls or self.spec.global_tokens > 0)
        self._card = card
        self._tokenizer: Any = None

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> TransformersEncoder:
        chosen_device, chosen_dtype = resolve_device(device), resolve_dtype(dtype)
        require_package("transformers")
        return cls(card, choose_weights(card, weights), chosen_device, chosen_dtype)

    @classmethod
    def describe(cls, repo: str) -> ModelCard:
        """The card of a repository of the hub, "OWNER/NAME" or "OWNER/NAME@REVISION", from its small files."""
        repo, _, revision = repo.partition("@")
        architecture = {"repo": repo} | ({"revision": revision} if revision else {})
        folder = _fetch_folder(repo, revision or None)
        if read_model_config(folder / CONFIG_FILE).is_tips:
            from tips_bench.encoders.tips import TipsEncoder

            hub_model(repo, revision or None, f"hf:{repo}")
            card = TipsEncoder.describe_path(folder)
            return card.model_copy(update={"name": f"hf:{repo}", "homepage": f"https://huggingface.co/{repo}"})
        weights = WeightsCard(hub=repo, file=SINGLE_FILE, revision=revision or None)
        return _describe(folder, f"hf:{repo}", architecture, weights, f"https://huggingface.co/{repo}")

    @classmethod
    def describe_folder(cls, folder: Path) -> ModelCard:
        """The card of a local folder."""
        return _describe(folder, folder.resolve().name, {"folder": str(folder)}, WeightsCard(path=str(folder)), str(folder))

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        patch = self.spec.patch_size
        grid = pixels_B3HW.shape[-2] // patch, pixels_B3HW.shape[-1] // patch
        blocks, final_norm = self.vision.get_submodule(self.family.blocks), self.vision.get_submodule(self.family.norm)
        kept: dict[int, Tensor] = {}
        hooks = [blocks[layer].register_forward_hook(_keeper(kept, layer)) for layer in set(layers)]
        try:
            with watched(blocks[-1], "attention_mask") as last:
                seen = self.vision(pixels_B3HW, **self._options(pixels_B3HW, grid))
        finally:
            for hook in hooks:
                hook.remove()
        count = self.spec.global_tokens if self.family.cls else 0
        found = {layer: final_norm(tokens_BND) if norm else tokens_BND for layer, tokens_BND in kept.items()}
        patches = {layer: tokens_BND[:, count:].unflatten(1, grid) for layer, tokens_BND in found.items()}
        if self.family.cls:
            # CLIP's own output is not normed, ours is: as for every other family.
            last_BND = final_norm(seen.last_hidden_state) if self.family is _CLIP else seen.last_hidden_state
            globals_BKD = last_BND[:, :count]
            layer_globals = [found[layer][:, :count] for layer in layers]
        else:
            globals_BKD = seen.pooler_output[:, None] if self.spec.global_tokens else seen.last_hidden_state[:, :0]
            layer_globals = [globals_BKD] * len(layers)
        features, final = ImageFeatures(globals_BKD, [patches[layer] for layer in layers], layer_globals), self.spec.depth - 1
        return with_values(features, layers, final, self._values(last, found[final])) if values and final in layers else features

    def _values(self, last: Watched, normed_BND: Tensor) -> Tensor:
        """[B,P,D] after the tower's projection. normed_BND: the last block's output after the final norm."""
        if not self.family.cls:
            return pooled_alone(self.vision.head, normed_BND)
        values_BPD = self.vision.get_submodule(self.family.norm)(last.alone()[:, self.spec.global_tokens :])
        return self.model.visual_projection(values_BPD)

    def last_projections(self) -> Projections:
        last = self.vision.get_submodule(self.family.blocks)[-1]
        norm = next(getattr(last, name) for name in ("norm1", "layernorm_before", "layer_norm1") if hasattr(last, name))
        return Projections(norm, _qkv(last.self_attn if hasattr(last, "self_attn") else last.attention))

    def tower_parts(self) -> Tower:
        if not self.spec.has_text or self.family is not _CLIP:
            return super().tower_parts()
        vision, patch = self.vision, self.spec.patch_size
        embeddings, (*blocks, last) = vision.embeddings, vision.encoder.layers
        attention, table_ND = last.self_attn, embeddings.position_embedding.weight

        def resized(grid: tuple[int, int]) -> Tensor:
            tokens_1ND = table_ND.new_empty(1, 1 + grid[0] * grid[1], table_ND.shape[1])
            return embeddings.interpolate_pos_encoding(tokens_1ND, grid[0] * patch, grid[1] * patch)[0]

        return Tower(
            module=vision,
            embed=embeddings.patch_embedding,
            class_token_D=embeddings.class_embedding,
            positions_ND=table_ND,
            resized=resized,
            norm_before=vision.pre_layrnorm,
            blocks=[_plain(block) for block in blocks],
            last=Block(
                norm=last.layer_norm1,
                qkv=_qkv(attention),
                heads=attention.num_heads,
                out=attention.out_proj,
                feed_forward=lambda x_BND: last.mlp(last.layer_norm2(x_BND)),
            ),
            finish=lambda x_BND: self.model.visual_projection(vision.post_layernorm(x_BND)),
        )

    def _options(self, pixels_B3HW: Tensor, grid: tuple[int, int]) -> dict[str, Any]:
        options: dict[str, Any] = {"interpolate_pos_encoding": True} if self.family.interpolate else {}
        if self.vision.config.model_type == "vit_mae":
            # Its model shuffles patches by noise even where it masks none; rising noise keeps their order.
            options["noise"] = torch.arange(grid[0] * grid[1], device=self.device, dtype=torch.float32).expand(len(pixels_B3HW), -1)
        return options

    @property
    def embeddings(self) -> int:
        """E: the tower's one output."""
        return int(self.spec.has_text)

    def _embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,1,D] after the tower's own pooling and projection."""
        return self.model.get_image_features(pixels_B3HW, interpolate_pos_encoding=True).pooler_output[:, None]

    @torch.inference_mode()
    def encode_text(self, texts: list[str]) -> Tensor:
        """[T,D] text embeddings after the projection, not normalised. Errors: an encoder without text."""
        tokens = self._tokenized(texts).to(self.device)
        return self.model.get_text_features(**tokens).pooler_output

    def _tokenized(self, texts: list[str]) -> Any:
        """input_ids [T,L], and whatever else the tokenizer gives."""
        # SigLIP was trained on texts padded to 64 tokens (transformers, SiglipModel.get_text_features).
        padding = True if self.family.cls else "max_length"
        tokenizer, length = self._text_tokenizer()
        return tokenizer(texts, padding=padding, truncation=True, max_length=length, return_tensors="pt")

    def cut_texts(self, texts: list[str]) -> int:
        """How many of the texts are longer than the positions of the text tower. Errors: an encoder without text."""
        tokenizer, length = self._text_tokenizer()
        return sum(len(ids) > length for ids in tokenizer(texts, padding=False, truncation=False)["input_ids"])

    def _text_tokenizer(self) -> tuple[Any, int]:
        """The tokenizer, and how many tokens the text tower takes."""
        if not self.spec.has_text:
            raise self._no_text()
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._card, self.model.config.model_type)
        return self._tokenizer, self.model.config.text_config.max_position_embeddings


def _keeper(kept: dict[int, Tensor], layer: int) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        kept[layer] = output if isinstance(output, Tensor) else output[0]

    return keep


def _qkv(attention: Any) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return lambda x_BND: (attention.q_proj(x_BND), attention.k_proj(x_BND), attention.v_proj(x_BND))


def _plain(block: nn.Module) -> Callable[[Tensor], Tensor]:
    """A block of transformers as a function of its tokens alone."""

    def run(x_BND: Tensor) -> Tensor:
        found = block(x_BND, attention_mask=None)
        return found if isinstance(found, Tensor) else found[0]

    return run


def _folder(card: ModelCard) -> Path:
    """Where the small files of a card's model lie, fetched if need be. Errors: other keys in its architecture."""
    keys = set(card.architecture)
    if keys == {"folder"}:
        return Path(os.path.expanduser(card.architecture["folder"]))
    if "repo" not in keys or not keys <= {"repo", "revision"}:
        raise UserError(f"architecture has the keys {sorted(keys)}", where=card.name, fix="Give {repo: OWNER/NAME} or {folder: PATH}.")
    return _fetch_folder(card.architecture["repo"], card.architecture.get("revision"))


def _config_sha256(folder: Path, card: ModelCard) -> str:
    """Of config.json, and in a local folder of the tokenizer's files; a repository's are fetched later, and its revision fixes them."""
    beside = sorted(path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)) if "folder" in card.architecture else []
    return digest(*(f"{path.name} {sha256(path)}" for path in [folder / CONFIG_FILE, *beside]))


def _fetch_folder(repo: str, revision: str | None) -> Path:
    folder = hub_file(repo, CONFIG_FILE, revision, f"hf:{repo}").parent
    if not read_model_config(folder / CONFIG_FILE).is_tips:
        hub_file(repo, PROCESSOR_FILES[0], revision, f"hf:{repo}")
    return folder


def _config(folder: Path) -> Any:
    """transformers' config of a folder. Errors: a kind of model that is not supported; code in the repository is never run."""
    stated = read_model_config(folder / CONFIG_FILE)
    kind = stated.model_type
    if kind not in FAMILIES:
        # timm's repositories say "architecture" where those of transformers say "model_type".
        timm_name = stated.values.get("architecture")
        fix = f"Use timm:{timm_name}." if timm_name else f"Supported: {', '.join(sorted(FAMILIES))}."
        raise UserError(f"model_type = {kind!r} is not supported", where=folder / CONFIG_FILE, fix=fix)
    for part in (stated.values, *(stated.values.get(name) for name in ("vision_config", "text_config"))):
        check_sizes(part if isinstance(part, dict) else {}, folder / CONFIG_FILE)
    transformers = require_package("transformers")
    with foreign(folder / CONFIG_FILE, "transformers does not read it"):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if kind == "vit_mae":
        config.mask_ratio = 0.0
    return config


def _vision_config(config: Any) -> Any:
    return config.vision_config if config.model_type in WITH_TEXT else config


def _facts(config: Any) -> dict[str, Any]:
    """The fields of a model card that a config determines."""
    vision, family = _vision_config(config), FAMILIES[config.model_type]
    tokens = 1 + (vision.num_register_tokens if family.registers else 0) if family.cls else int(getattr(vision, "vision_use_head", True))
    size = vision.image_size
    return {
        "patch_size": vision.patch_size,
        "embed_dim": vision.hidden_size,
        "depth": vision.num_hidden_layers,
        "resolution": size if isinstance(size, int) else size[-1],
        "global_tokens": tokens,
        "has_text": config.model_type in WITH_TEXT,
    }


def _check_card(card: ModelCard, facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        # A card may leave a text tower unused, or state another resolution to start from.
        if key not in ("resolution", "has_text") and getattr(card, key) != value:
            raise UserError(
                f"{key} = {getattr(card, key)}, but the model has {value}",
                where=card.name,
                fix=f"Fix the model card: set {key} to {value}.",
            )


def _describe(folder: Path, name: str, architecture: dict[str, Any], weights: WeightsCard, homepage: str) -> ModelCard:
    config = _config(folder)
    mean, std = read_normalization(folder)
    with foreign(folder / CONFIG_FILE, "it does not describe an encoder of images"):
        stated = _facts(config)
        return ModelCard(
            name=name,
            title=f"{name} (transformers)",
            source="transformers",
            architecture=architecture,
            weights=weights,
            mean=mean,
            std=std,
            preprocessing=of_transformers(folder, stated["patch_size"]),
            **stated,
            license="unknown",
            citation=f"transformers, {config.model_type}",
            homepage=homepage,
        )


def _build(config: Any, weights: Weights, where: Path) -> nn.Module:
    """where: the config, for messages."""
    transformers = require_package("transformers")
    if weights.path is None:
        with foreign(where, "transformers does not build it"), seeded(weights.seed or 0):
            return transformers.AutoModel.from_config(config)
    state = read_tensors(weights.path)
    kind = type(config)
    # transformers initialises before it loads, which draws numbers.
    with foreign(where, "transformers does not build it"), reading(weights.path), seeded(0), silent(transformers):
        model, info = transformers.AutoModel._model_mapping[kind].from_pretrained(
            None, config=config, state_dict=state, output_loading_info=True, ignore_mismatched_sizes=True
        )
    _check_report(info, weights.path)
    check_finite(model, weights.path)
    return model


def _check_report(info: dict[str, Any], path: Path) -> None:
    """transformers only reports tensors that do not fit; here they are an error."""
    fix = prefix_fix(info["missing_keys"], info["unexpected_keys"]) or "Give weights of the same architecture as the model."
    if info["mismatched_keys"]:
        key, found, expected = min(info["mismatched_keys"])
        raise UserError(f"{key} has shape {list(found)}, expected {list(expected)}", where=path, fix=fix)
    for found, what in (("missing_keys", "are missing"), ("unexpected_keys", "are not part of the model")):
        if bad := sorted(key for key in info[found] if not key.startswith(_UNUSED) and not key.endswith("position_ids")):
            raise UserError(f"{len(bad)} tensors {what}, the first is {bad[0]!r}", where=path, fix=fix)


def _tokenizer(card: ModelCard, model_type: str) -> Any:
    """The tokenizer of a card's folder. Errors: it cannot be loaded; a package that it needs is not installed."""
    transformers = require_package("transformers")
    source = card.architecture.get("repo") or card.architecture["folder"]
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=card.architecture.get("revision"), trust_remote_code=False)
    except ImportError:
        require_package("google.protobuf")
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"its tokenizer cannot be loaded: {str(error).splitlines()[0]}", where=card.name) from error
    if model_type == "siglip" and type(tokenizer).__name__.removesuffix("Fast") == "GemmaTokenizer":
        _lower_cased(tokenizer.backend_tokenizer)
    return tokenizer


def _lower_cased(tokenizer: Any) -> None:
    """Let a tokenizer of Gemma bring text to lower case first, as SigLIP 2 was trained (big_vision, SigLIP2_demo.ipynb).

    Its checkpoints name Gemma's tokenizer, which keeps the case; what is done here is what transformers' Siglip2Tokenizer adds to it
    (models/siglip2/tokenization_siglip2.py).
    """
    normalizers = require_package("tokenizers").normalizers
    steps = [normalizers.Lowercase(), *filter(None, [tokenizer.normalizer])]
    tokenizer.normalizer = normalizers.Sequence(steps)
