"""Shapes of the TIPS towers, and the sizes that were published.

Sizes: google-deepmind/tips, pytorch/image_encoder.py and pytorch/run_text_encoder_inference.py; the 32x32 position grid of v2:
TIPSv2 (arXiv 2604.12012), section 4.1. Imports no torch, so that listing models stays cheap.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tips_bench.errors import UserError, unknown_name

Ffn = Literal["mlp", "swiglu"]
Kind = Literal["vision", "text"]
FFNS: tuple[Ffn, ...] = ("mlp", "swiglu")
Growth = Literal["linear", "uniform"]  # of the rate of drop path, over the blocks
Gelu = Literal["erf", "tanh"]
GELUS: tuple[Gelu, ...] = ("erf", "tanh")

VOCAB_SIZE = 32_000
MAX_TEXT_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """Shape of an image tower.

    mlp_dim: width between the two linear maps of the feed-forward part; for "swiglu" the width of its gate.
    position_grid: rows and columns of the learned position embeddings.
    num_global_tokens: the first is the CLS token, the only one with a position embedding; the others are register-style.
    init_values: what LayerScale starts from.
    gelu: exact, by the error function, as the official PyTorch code has it, or the tanh approximation of the official Flax code.
    """

    name: str
    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    ffn: Ffn = "mlp"
    patch_size: int = 14
    position_grid: tuple[int, int] = (32, 32)
    num_global_tokens: int = 2
    init_values: float = 1.0
    gelu: Gelu = "erf"
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "position_grid", tuple(self.position_grid))
        _check_positive(self, "embed_dim", "depth", "num_heads", "mlp_dim", "patch_size", "num_global_tokens", "layer_norm_eps")
        _check_heads(self)
        if self.ffn not in FFNS:
            raise unknown_name("feed-forward kind", str(self.ffn), FFNS, where=f"image tower {self.name!r}: ffn")
        if self.gelu not in GELUS:
            raise unknown_name("kind of GELU", str(self.gelu), GELUS, where=f"image tower {self.name!r}: gelu")
        if len(self.position_grid) != 2 or any(type(side) is not int or side < 1 for side in self.position_grid):
            raise UserError(
                f"{self.position_grid} is not a grid", where=f"image tower {self.name!r}: position_grid", fix="Give (rows, columns)."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: object) -> VisionConfig:
        """The config a mapping describes; a missing or unknown field is an error naming where it was read."""
        return cls(**_checked_fields(cls, values, where))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` takes back, fit for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Shape of a text tower. Its embedding has the width of the tower: there is no projection."""

    name: str
    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    vocab_size: int = VOCAB_SIZE
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_positive(self, "embed_dim", "depth", "num_heads", "mlp_dim", "vocab_size", "layer_norm_eps")
        _check_heads(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: object) -> TextConfig:
        """The config a mapping describes; a missing or unknown field is an error naming where it was read."""
        return cls(**_checked_fields(cls, values, where))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` takes back, fit for JSON."""
        return asdict(self)


Config = VisionConfig | TextConfig


def _check_positive(config: Config, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        kinds = int | float if name == "layer_norm_eps" else int
        if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
            what = "number" if name == "layer_norm_eps" else "whole number"
            raise UserError(f"{value!r} is not a positive {what}", where=f"tower {config.name!r}: {name}")


def _check_heads(config: Config) -> None:
    if config.embed_dim % config.num_heads:
        raise UserError(
            f"{config.num_heads} heads do not divide the width {config.embed_dim}",
            where=f"tower {config.name!r}: num_heads",
            fix="Give a number of heads that does.",
        )


def _checked_fields(cls: type, values: dict[str, Any], where: object) -> dict[str, Any]:
    known = {field.name for field in fields(cls)}
    if unknown := sorted(set(values) - known):
        raise unknown_name("config field", unknown[0], known, where=where)
    required = {"name", "embed_dim", "depth", "num_heads", "mlp_dim"}
    if missing := sorted(required - set(values)):
        raise UserError(f"the config lacks {', '.join(missing)}", where=where)
    return values


@dataclass(frozen=True)
class _Size:
    embed_dim: int
    depth: int
    num_heads: int
    vision_mlp_dim: int
    text_mlp_dim: int
    text_depth: int
    ffn: Ffn


# The gate of g is two thirds of 4 x 1536, rounded up to a multiple of 8.
_SIZES = {
    "s": _Size(384, 12, 6, 1536, 1536, 12, "mlp"),
    "b": _Size(768, 12, 12, 3072, 3072, 12, "mlp"),
    "l": _Size(1024, 24, 16, 4096, 4096, 12, "mlp"),
    "so400m": _Size(1152, 27, 16, 4304, 4304, 27, "mlp"),
    "g": _Size(1536, 40, 24, 4096, 6144, 12, "swiglu"),
}
_GRIDS = {"tips": (16, 16), "tipsv2": (32, 32)}
_PUBLISHED = tuple(f"{version}-{size}14" for version in _GRIDS for size in _SIZES if (version, size) != ("tipsv2", "s"))


def published_names() -> tuple[str, ...]:
    """The architectures with official weights: tips-s14 ... tipsv2-g14. The low-resolution g of v1 has the shape of tips-g14."""
    return _PUBLISHED


def vision_config(name: str) -> VisionConfig:
    """The image tower of a published architecture, by its name ("tips-b14", "tipsv2-so400m14")."""
    size, grid = _split(name)
    return VisionConfig(
        name=name,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        mlp_dim=size.vision_mlp_dim,
        ffn=size.ffn,
        position_grid=grid,
    )


def text_config(name: str) -> TextConfig:
    """The text tower of a published architecture, by its name ("tips-b14", "tipsv2-so400m14")."""
    size, _ = _split(name)
    return TextConfig(name=name, embed_dim=size.embed_dim, depth=size.text_depth, num_heads=size.num_heads, mlp_dim=size.text_mlp_dim)


def published_config(kind: Kind, embed_dim: int, depth: int, mlp_dim: int) -> Config | None:
    """The published tower of this shape, whichever its position grid; None where there is none."""
    configs = [vision_config(name) if kind == "vision" else text_config(name) for name in _PUBLISHED]
    shape = (embed_dim, depth, mlp_dim)
    return next((config for config in configs if (config.embed_dim, config.depth, config.mlp_dim) == shape), None)


def _split(name: str) -> tuple[_Size, tuple[int, int]]:
    if name not in _PUBLISHED:
        raise unknown_name("architecture", name, _PUBLISHED)
    version, size = name.removesuffix("14").split("-")
    return _SIZES[size], _GRIDS[version]
