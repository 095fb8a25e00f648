"""How each file format names and lays out the towers' tensors.

A `Naming` is a list of entries; an entry says which tensors of a file make which parameters of a tower, and a `Rule` turns one into
the other, both ways. Rules run on meta tensors too: that is how the expected shapes of a file, and the shape of the tower a file
holds, are found without reading it.

Sources: google-deepmind/tips (pytorch/, scenic/models/); transformers/models/tipsv2 and its conversion_mapping.py.
Axes: D feature, O outputs, I inputs, S heads, E features of a head, K global tokens, h w position grid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tips_bench.models.configs import Config, Gelu, VisionConfig


@dataclass(frozen=True)
class Rule:
    """build: tensors of a file, parameter shapes -> parameters. split: parameters, config -> tensors of a file."""

    build: Callable[[list[Tensor], list[torch.Size]], list[Tensor]]
    split: Callable[[list[Tensor], Config], list[Tensor]]


@dataclass(frozen=True)
class Entry:
    """own: parameter names of a tower. file: names in the file. "{i}" stands for the number of a block."""

    own: tuple[str, ...]
    file: tuple[str, ...]
    rule: Rule

    def at(self, prefix: str, block: int) -> Entry:
        """The entry of one block, with the file's prefix on its names."""
        return Entry(
            tuple(name.replace("{i}", str(block)) for name in self.own),
            tuple(prefix + name.replace("{i}", str(block)) for name in self.file),
            self.rule,
        )

    @property
    def per_block(self) -> bool:
        return any("{i}" in name for name in self.own)


@dataclass(frozen=True)
class Naming:
    """One way to name a tower's tensors.

    prefixes: what may stand before every name. shared: entries of every tower; ffn: those of each feed-forward kind.
    heads: the tensor whose first axis counts the heads, and grid: the one whose axes 1 and 2 are the position grid, where there is one.
    gelu: the kind of GELU that the code behind these names applies, where it is not for the config to say.
    """

    name: str
    prefixes: tuple[str, ...]
    shared: tuple[Entry, ...]
    ffn: dict[str, tuple[Entry, ...]]
    heads: str | None = None
    grid: str | None = None
    gelu: Gelu | None = None

    def entries(self, config: Config, prefix: str) -> list[Entry]:
        """Every entry of a tower, blocks counted out."""
        templates = [*self.shared, *self.ffn[ffn_of(config)]]
        once = [entry.at(prefix, 0) for entry in templates if not entry.per_block]
        blocks = [entry.at(prefix, i) for i in range(config.depth) for entry in templates if entry.per_block]
        return once + blocks

    def overlap(self, keys: Iterable[str], prefix: str) -> float:
        """The share of a one-block tower's names that a file's keys contain: 1 where the file is named this way and whole."""
        present = set(keys)
        names = [name for entry in (*self.shared, *self.ffn[self.ffn_kind(present, prefix)]) for name in entry.at(prefix, 0).file]
        return sum(name in present for name in names) / len(names)

    def ffn_kind(self, keys: Iterable[str], prefix: str) -> str:
        """The feed-forward kind whose names are the most complete in block 0."""
        present = set(keys)

        def found(kind: str) -> float:
            names = [name for entry in self.ffn[kind] for name in entry.at(prefix, 0).file]
            return sum(name in present for name in names) / len(names)

        return max(self.ffn, key=found)

    def depth(self, keys: Iterable[str], prefix: str) -> int:
        """The number of blocks a file holds."""
        norm = next(entry for entry in self.shared if entry.own == ("blocks.{i}.norm1.weight",))
        pattern = re.compile(re.escape(prefix + norm.file[0]).replace(r"\{i\}", r"(\d+)") + "$")
        return 1 + max((int(match[1]) for key in keys if (match := pattern.match(key))), default=-1)


def ffn_of(config: Config) -> str:
    """The feed-forward kind of a config; text towers have but one."""
    return config.ffn if isinstance(config, VisionConfig) else "mlp"


def _cat(parts: list[Tensor], _: list[torch.Size]) -> list[Tensor]:
    return [torch.cat(parts)]


def _dense(kernel_IO: Tensor) -> Tensor:
    return kernel_IO.transpose(0, 1)


def _split_qkv_kernel(own: list[Tensor], config: Config) -> list[Tensor]:
    return [_dense(part).unflatten(1, (config.num_heads, -1)) for part in own[0].chunk(3)]


def _positions(parts: list[Tensor], _: list[torch.Size]) -> list[Tensor]:
    grid_1PD = parts[0].flatten(1, 2)
    return [torch.cat([torch.zeros_like(grid_1PD[:, :1]), grid_1PD], dim=1)]


def _split_positions(own: list[Tensor], config: Config) -> list[Tensor]:
    assert isinstance(config, VisionConfig)
    return [own[0][:, 1:].unflatten(1, config.position_grid)]


_SAME = Rule(lambda parts, _: parts, lambda own, _: own)
_JOIN_3 = Rule(_cat, lambda own, _: list(own[0].chunk(3)))
_JOIN_2 = Rule(_cat, lambda own, _: list(own[0].chunk(2)))
# Flax keeps inputs before outputs, heads apart, and channels last.
_CONV = Rule(lambda parts, _: [parts[0].permute(3, 2, 0, 1)], lambda own, _: [own[0].permute(2, 3, 1, 0)])
_DENSE = Rule(lambda parts, _: [_dense(parts[0])], lambda own, _: [_dense(own[0])])
_DENSE_2 = Rule(lambda parts, _: [torch.cat([_dense(part) for part in parts])], lambda own, _: [_dense(part) for part in own[0].chunk(2)])
_QKV_KERNEL = Rule(lambda parts, _: [torch.cat([_dense(part.flatten(1)) for part in parts])], _split_qkv_kernel)
_QKV_BIAS = Rule(
    lambda parts, _: [torch.cat([part.flatten() for part in parts])],
    lambda own, config: [part.unflatten(0, (config.num_heads, -1)) for part in own[0].chunk(3)],
)
_OUT_KERNEL = Rule(
    lambda parts, _: [_dense(parts[0].flatten(0, 1))], lambda own, config: [_dense(own[0]).unflatten(0, (config.num_heads, -1))]
)
# The Flax tower has no position embedding for CLS, no mask token and no LayerScale.
_POSITIONS = Rule(_positions, _split_positions)
_GLOBALS = Rule(lambda parts, _: [parts[0][:, :1].clone(), parts[0][:, 1:].clone()], lambda own, _: [torch.cat(own, dim=1)])
_ZERO = Rule(lambda _, shapes: [torch.zeros(shapes[0])], lambda own, _: [])
_ONE = Rule(lambda _, shapes: [torch.ones(shapes[0])], lambda own, _: [])


def _same(own: str, file: str) -> tuple[Entry, ...]:
    """A module's weight and bias, kept as they are."""
    return tuple(Entry((f"{own}.{leaf}",), (f"{file}.{leaf}",), _SAME) for leaf in ("weight", "bias"))


def _joined(own: str, files: tuple[str, ...], rule: Rule) -> tuple[Entry, ...]:
    """A module whose weight and bias a file keeps in several modules."""
    return tuple(Entry((f"{own}.{leaf}",), tuple(f"{file}.{leaf}" for file in files), rule) for leaf in ("weight", "bias"))


def _flax_norm(own: str, file: str) -> tuple[Entry, ...]:
    return Entry((f"{own}.weight",), (f"{file}/scale",), _SAME), Entry((f"{own}.bias",), (f"{file}/bias",), _SAME)


def _flax_dense(own: str, *files: str, kernel: Rule = _DENSE, bias: Rule = _SAME) -> tuple[Entry, ...]:
    return (
        Entry((f"{own}.weight",), tuple(f"{file}/kernel" for file in files), kernel),
        Entry((f"{own}.bias",), tuple(f"{file}/bias" for file in files), bias),
    )


def _flax_block(prefix: str) -> tuple[Entry, ...]:
    attention = f"{prefix}/MultiHeadDotProductAttention_0"
    heads = [f"{attention}/{name}" for name in ("query", "key", "value")]
    return (
        *_flax_norm("blocks.{i}.norm1", f"{prefix}/LayerNorm_0"),
        *_flax_dense("blocks.{i}.attn.qkv", *heads, kernel=_QKV_KERNEL, bias=_QKV_BIAS),
        *_flax_dense("blocks.{i}.attn.proj", f"{attention}/out", kernel=_OUT_KERNEL),
        *_flax_norm("blocks.{i}.norm2", f"{prefix}/LayerNorm_1"),
    )


def _flax_mlp(prefix: str) -> tuple[Entry, ...]:
    return (
        *_flax_dense("blocks.{i}.mlp.fc1", f"{prefix}/MlpBlock_0/Dense_0"),
        *_flax_dense("blocks.{i}.mlp.fc2", f"{prefix}/MlpBlock_0/Dense_1"),
    )


_VISION_TOKENS = ("cls_token", "register_tokens", "mask_token", "pos_embed")

# The parameters of `VisionTower` bear the names of the official PyTorch code.
_TORCH_VISION_SHARED = (
    *(Entry((name,), (name,), _SAME) for name in _VISION_TOKENS),
    *_same("patch_embed.proj", "patch_embed.proj"),
    *(entry for part in ("norm1", "attn.qkv", "attn.proj", "norm2") for entry in _same(f"blocks.{{i}}.{part}", f"blocks.{{i}}.{part}")),
    *(Entry((f"blocks.{{i}}.{ls}.gamma",), (f"blocks.{{i}}.{ls}.gamma",), _SAME) for ls in ("ls1", "ls2")),
    *_same("norm", "norm"),
)
_TORCH_MLP = (*_same("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.fc1"), *_same("blocks.{i}.mlp.fc2", "blocks.{i}.mlp.fc2"))
_TORCH_SWIGLU = (*_same("blocks.{i}.mlp.w12", "blocks.{i}.mlp.w12"), *_same("blocks.{i}.mlp.w3", "blocks.{i}.mlp.w3"))
TORCH_VISION = Naming(
    "PyTorch",
    ("", "vision_encoder.", "vision."),
    _TORCH_VISION_SHARED,
    {"mlp": _TORCH_MLP, "swiglu": _TORCH_SWIGLU},
)
# transformers, when it saves a tower in "original" names, calls the two maps of its MLP as the text tower does.
_SAVED_VISION = Naming(
    "PyTorch, as transformers saves it",
    ("", "vision_encoder."),
    _TORCH_VISION_SHARED,
    {"mlp": (*_same("blocks.{i}.mlp.fc1", "blocks.{i}.mlp.c_fc"), *_same("blocks.{i}.mlp.fc2", "blocks.{i}.mlp.c_proj"))},
)

_HF_LAYER = "encoder.layer.{i}"
_TRANSFORMERS_VISION = Naming(
    "transformers",
    ("", "vision_model."),
    (
        *(Entry((name,), (f"embeddings.{name}",), _SAME) for name in _VISION_TOKENS[:3]),
        Entry(("pos_embed",), ("embeddings.position_embeddings",), _SAME),
        *_same("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        *_same("blocks.{i}.norm1", f"{_HF_LAYER}.norm1"),
        *_joined("blocks.{i}.attn.qkv", tuple(f"{_HF_LAYER}.attention.{n}_proj" for n in "qkv"), _JOIN_3),
        *_same("blocks.{i}.attn.proj", f"{_HF_LAYER}.attention.o_proj"),
        *_same("blocks.{i}.norm2", f"{_HF_LAYER}.norm2"),
        *(Entry((f"blocks.{{i}}.ls{n}.gamma",), (f"{_HF_LAYER}.layer_scale{n}.lambda1",), _SAME) for n in (1, 2)),
        *_same("norm", "layernorm"),
    ),
    {
        "mlp": (*_same("blocks.{i}.mlp.fc1", f"{_HF_LAYER}.mlp.fc1"), *_same("blocks.{i}.mlp.fc2", f"{_HF_LAYER}.mlp.fc2")),
        "swiglu": (
            *_joined("blocks.{i}.mlp.w12", (f"{_HF_LAYER}.mlp.gate_proj", f"{_HF_LAYER}.mlp.up_proj"), _JOIN_2),
            *_same("blocks.{i}.mlp.w3", f"{_HF_LAYER}.mlp.down_proj"),
        ),
    },
)

_FLAX_LAYER = "encoder/transformer/encoderblock_{i}"
_FLAX_VISION = Naming(
    "Flax",
    ("",),
    (
        Entry(("cls_token", "register_tokens"), ("encoder/ToTokenSequence_0/cls",), _GLOBALS),
        Entry(("pos_embed",), ("encoder/ToTokenSequence_0/posembed_input",), _POSITIONS),
        Entry(("mask_token",), (), _ZERO),
        *_flax_dense("patch_embed.proj", "encoder/ToTokenSequence_0/embedding", kernel=_CONV),
        *_flax_block(_FLAX_LAYER),
        *(Entry((f"blocks.{{i}}.ls{n}.gamma",), (), _ONE) for n in (1, 2)),
        *_flax_norm("norm", "encoder/encoder_norm"),
    ),
    {
        "mlp": _flax_mlp(_FLAX_LAYER),
        "swiglu": (
            *_flax_dense(
                "blocks.{i}.mlp.w12",
                f"{_FLAX_LAYER}/FFNSwiGluFused_0/Dense_0",
                f"{_FLAX_LAYER}/FFNSwiGluFused_0/Dense_1",
                kernel=_DENSE_2,
                bias=_JOIN_2,
            ),
            *_flax_dense("blocks.{i}.mlp.w3", f"{_FLAX_LAYER}/FFNSwiGluFused_0/Dense_2"),
        ),
    },
    heads="encoder/transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/bias",
    grid="encoder/ToTokenSequence_0/posembed_input",
    gelu="tanh",
)

_TEXT_LAYER = "transformer.resblocks.{i}"
TORCH_TEXT = Naming(
    "PyTorch",
    ("", "text_encoder."),
    (
        Entry(("token_embed.weight",), ("token_embedding.weight",), _SAME),
        *_same("blocks.{i}.norm1", f"{_TEXT_LAYER}.ln_1"),
        *(Entry((f"blocks.{{i}}.attn.qkv.{leaf}",), (f"{_TEXT_LAYER}.attn.in_proj_{leaf}",), _SAME) for leaf in ("weight", "bias")),
        *_same("blocks.{i}.attn.proj", f"{_TEXT_LAYER}.attn.out_proj"),
        *_same("blocks.{i}.norm2", f"{_TEXT_LAYER}.ln_2"),
        *_same("norm", "ln_final"),
    ),
    {"mlp": (*_same("blocks.{i}.mlp.fc1", f"{_TEXT_LAYER}.mlp.c_fc"), *_same("blocks.{i}.mlp.fc2", f"{_TEXT_LAYER}.mlp.c_proj"))},
)

_HF_TEXT_LAYER = "encoder.layers.{i}"
_TRANSFORMERS_TEXT = Naming(
    "transformers",
    ("", "text_model."),
    (
        Entry(("token_embed.weight",), ("embeddings.token_embedding.weight",), _SAME),
        *_same("blocks.{i}.norm1", f"{_HF_TEXT_LAYER}.layer_norm1"),
        *_joined("blocks.{i}.attn.qkv", tuple(f"{_HF_TEXT_LAYER}.self_attn.{n}_proj" for n in "qkv"), _JOIN_3),
        *_same("blocks.{i}.attn.proj", f"{_HF_TEXT_LAYER}.self_attn.out_proj"),
        *_same("blocks.{i}.norm2", f"{_HF_TEXT_LAYER}.layer_norm2"),
        *_same("norm", "final_layer_norm"),
    ),
    {"mlp": (*_same("blocks.{i}.mlp.fc1", f"{_HF_TEXT_LAYER}.mlp.fc1"), *_same("blocks.{i}.mlp.fc2", f"{_HF_TEXT_LAYER}.mlp.fc2"))},
)

_FLAX_TEXT = Naming(
    "Flax",
    ("",),
    (
        Entry(("token_embed.weight",), ("token_emb/emb_var",), _SAME),
        *_flax_block("transformer/encoderblock_{i}"),
        *_flax_norm("norm", "text_encoder_norm"),
    ),
    {"mlp": _flax_mlp("transformer/encoderblock_{i}")},
    heads="transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/bias",
)

OWN_TEXT = Naming(
    "tips-bench",
    ("text.",),
    (
        Entry(("token_embed.weight",), ("token_embed.weight",), _SAME),
        *(entry for part in ("norm1", "attn.qkv", "attn.proj", "norm2") for entry in _same(f"blocks.{{i}}.{part}", f"blocks.{{i}}.{part}")),
        *_same("norm", "norm"),
    ),
    {"mlp": _TORCH_MLP},
)

# Our own files keep the image tower's official names behind "vision." and the text tower's own behind "text.".
VISION_NAMINGS = (TORCH_VISION, _SAVED_VISION, _TRANSFORMERS_VISION, _FLAX_VISION)
TEXT_NAMINGS = (TORCH_TEXT, _TRANSFORMERS_TEXT, _FLAX_TEXT, OWN_TEXT)
# What a tower's tensors may stand behind, so that one tower's are not taken for strays of the other.
TOWER_PREFIXES = {"vision": ("vision.", "vision_encoder.", "vision_model."), "text": ("text.", "text_encoder.", "text_model.")}
# What the DPT heads of google/tipsv2-*-dpt stand behind, in one file with the image tower.
HEAD_PREFIXES = ("segmentation_head.", "depth_head.", "normals_head.")
TEMPERATURE_KEYS = ("temperature", "temperature_contrastive")
