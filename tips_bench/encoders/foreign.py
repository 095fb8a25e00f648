"""What stands between transformers and the files of strangers: sizes checked before it builds, its errors as sentences, its talk off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError

# The greatest that a config may state: far beyond any model, and far below what would take hours to build.
MOST = {"num_hidden_layers": 512, "hidden_size": 32_768, "num_attention_heads": 1024, "patch_size": 512, "image_size": 16_384}
MOST |= {"intermediate_size": 262_144, "num_channels": 16, "num_register_tokens": 1024, "projection_dim": 32_768, "vocab_size": 4_000_000}
MOST |= {"max_position_embeddings": 1_000_000}


def check_sizes(config: dict[str, Any], where: Path) -> None:
    """Errors: sizes that no model has, for which transformers would work for hours or not at all."""
    for key, most in MOST.items():
        value, least = config.get(key), 0 if key == "num_register_tokens" else 1
        sides = value if key == "image_size" and isinstance(value, list | tuple) and value else [value]
        if value is not None and not all(type(side) is int and least <= side <= most for side in sides):
            raise UserError(f"{key} = {repr(value)[:100]} is not a whole number from {least} to {most}", where=where)
    if config.get("quantization_config") is not None:
        raise UserError("the weights are quantized, and only whole ones are evaluated", where=where, fix="Use the unquantized model.")


@contextmanager
def foreign(where: Path, problem: str) -> Iterator[None]:
    """Whatever transformers raises over a config is the config's fault: it checks values with several libraries' own errors."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{problem}: {reason}", where=where, fix="Download the folder again, or another model.") from error


@contextmanager
def silent(transformers: Any) -> Iterator[None]:
    """Without its progress bar and its report of tensors, which prints names as they stand in a file; `_check_report` has the same."""
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
