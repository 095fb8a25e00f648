"""A user's own encoder: `module.path:callable`, called without arguments.

It returns an Encoder, or an nn.Module or function that maps pixels [B,3,H,W] in [0, 1] to features [B,D,h,w] or [B,h,w,D]. What such
a function is like is found by giving it one fixed image; it does its own normalisation and counts as one block without global
tokens. A module is moved to the device of the run and cast to its precision; a function gets pixels that are, and moves and casts
them itself where its weights are not.

    # mine.py
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = MyBackbone().load(...)

        def forward(self, pixels):
            return self.model((pixels - 0.5) / 0.5)

    tips-bench run --task rooms-seg --model mine:Mine

Axes: B batch, H W pixels, h w token grid, D feature.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.cards import ModelCard
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures, spec_from_card
from tips_bench.encoders.weights import freeze, resolve_dtype
from tips_bench.errors import CodeFailed, UserError
from tips_bench.fetch import first_line
from tips_bench.models.devices import resolve_device

# Twice as wide as high, so that the axes of the grid can be told from the features; divisible by patches of 7, 8, 14, 16, 28 and 32.
_PROBE = (224, 448)


class CallableEncoder(Encoder):
    """A function of pixels behind the contract."""

    def __init__(
        self, card: ModelCard, function: Callable[[Tensor], Tensor], identity: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, identity), device, dtype
        self.function = freeze(function, device, dtype) if isinstance(function, nn.Module) else function

    @classmethod
    def from_card(cls, card: ModelCard, weights: str | Path | None, device: str | None, dtype: str | None) -> Encoder:
        """Errors: weights, which a callable brings itself; an Encoder asked to change its device or precision."""
        target = str(card.architecture["target"])
        if weights is not None:
            raise UserError(f"weights = {str(weights)!r}: a callable loads its own weights", where=target, fix="Leave --weights out.")
        built = _build(target)
        # What is handed out is moved and converted in place; the next caller gets one of its own.
        _build.cache_clear()
        if isinstance(built, Encoder):
            return _as_asked(built, device, dtype, target)
        return cls.of(card, built, device, dtype)

    @classmethod
    def of(cls, card: ModelCard, function: Callable[[Tensor], Tensor], device: str | None, dtype: str | None) -> Encoder:
        """The function as an encoder with this card; its hash is that of what it gives for one fixed image."""
        encoder = cls(card, function, "none", resolve_device(device), resolve_dtype(dtype))
        features_BhwD = encoder._features(_probe_pixels().to(encoder.device, encoder.dtype))
        digest = hashlib.sha256(features_BhwD.float().cpu().numpy().tobytes()).hexdigest()
        encoder.spec = spec_from_card(card, f"output:{digest}")
        return encoder

    @classmethod
    def describe(cls, target: str) -> ModelCard:
        """The card of a callable: from its spec where it returns an Encoder, else from what it gives for one image."""
        built = _build(target)
        return _card(target, _from_spec(built.spec) if isinstance(built, Encoder) else _from_output(built, target))

    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        features_BhwD = self._features(pixels_B3HW)
        globals_BKD = features_BhwD.new_zeros(len(features_BhwD), 0, self.spec.embed_dim)
        return ImageFeatures(globals_BKD, [features_BhwD] * len(layers), [globals_BKD] * len(layers))

    def _features(self, pixels_B3HW: Tensor) -> Tensor:
        grid = pixels_B3HW.shape[-2] // self.spec.patch_size, pixels_B3HW.shape[-1] // self.spec.patch_size
        features = _call(self.function, pixels_B3HW, self.spec.name)
        wanted = (len(pixels_B3HW), *grid, self.spec.embed_dim)
        if tuple(features.shape) == wanted:
            return features
        if tuple(features.movedim(1, -1).shape) == wanted:
            return features.movedim(1, -1)
        raise UserError(
            f"it gave {list(features.shape)} for pixels of {list(pixels_B3HW.shape)}, expected {list(wanted)}",
            where=self.spec.name,
            fix="Return [B, D, h, w] or [B, h, w, D] with one grid cell per patch, for every image size.",
        )


def wrap(model: Any, device: str | None = None, dtype: str | None = None) -> Encoder:
    """An Encoder as it is, or a module or function of pixels as one, named for its class or function; a module is copied first.

    Errors: as for a callable that is named; an Encoder asked to change its device or precision.
    """
    if isinstance(model, Encoder):
        return _as_asked(model, device, dtype, model.spec.name)
    if not callable(model) or isinstance(model, type):
        fix = "Give an Encoder, an nn.Module or a function of pixels, not its class."
        raise UserError(f"a {type(model).__name__} is no encoder", where="model", fix=fix)
    kind = type(model) if isinstance(model, nn.Module) or not hasattr(model, "__name__") else model
    name = kind.__name__.strip("<>") if kind.__module__ == "__main__" else f"{kind.__module__}:{kind.__name__.strip('<>')}"
    function = copy.deepcopy(model).to(torch.float32).eval() if isinstance(model, nn.Module) else model
    return CallableEncoder.of(_card(name, _from_output(function, name)), function, device, dtype)


def is_object(card: ModelCard) -> bool:
    """Whether the card is of an object that was given from Python and that no name leads back to."""
    return card.source == "callable" and ":" not in str(card.architecture.get("target", ":"))


def card_of(encoder: Encoder) -> ModelCard:
    """The card that a user's own encoder has in a record."""
    return _card(encoder.spec.name, _from_spec(encoder.spec))


def _as_asked(encoder: Encoder, device: str | None, dtype: str | None, where: str) -> Encoder:
    """The encoder. Errors: another device or precision was asked for than it has."""
    if (device is not None and resolve_device(device) != encoder.device) or (dtype is not None and resolve_dtype(dtype) != encoder.dtype):
        fix = "Choose device and precision where you build it."
        raise UserError(f"it is on {encoder.device} in {encoder.dtype}", where=where, fix=fix)
    return encoder


def _card(name: str, stated: dict[str, Any]) -> ModelCard:
    return ModelCard(
        name=name,
        title=f"{name} (callable)",
        source="callable",
        architecture={"target": name},
        **stated,
        citation="none: a user's own encoder",
        homepage=name,
    )


def named(target: str, fix: str = "Name a function that returns the encoder.") -> Any:
    """What "module.path:attribute" names, a function or a class; looked for in the working directory, too.

    Errors: no such module or attribute, code that fails while it is imported, something that cannot be called (`fix`: what to name).
    """
    module_name, _, attribute = target.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        # A console script does not look in the working directory, where a user's file lies.
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _failed("it cannot be imported", error, target) from error
        raise UserError(
            f"there is no module {error.name!r}",
            where=target,
            fix="Run the command in the folder of that module, or add the folder to PYTHONPATH.",
        ) from error
    except UserError:
        raise
    except Exception as error:
        raise _failed("it cannot be imported", error, target) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"{module_name} has no {attribute!r}", where=target)
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"it is a {type(found).__name__}, not callable", where=target, fix=fix)
    return found


@functools.lru_cache(maxsize=1)
def _build(target: str) -> Any:
    """What the callable returns; built once for a card and the encoder that follows it."""
    found = named(target)
    if wanted := _arguments(found):
        fix = f"Name a function without arguments that returns it: def build(): return {target.rpartition(':')[2]}"
        raise CodeFailed(f"it wants {', '.join(wanted)}, and it is called without arguments", where=target, fix=fix)
    try:
        built = found()
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _failed("called without arguments, it failed", error, target) from error
    if not callable(built) and not isinstance(built, Encoder):
        raise UserError(
            f"it returned a {type(built).__name__}", where=target, fix="Return an Encoder, an nn.Module or a function of pixels."
        )
    if isinstance(built, nn.Module) and not isinstance(built, Encoder):
        # In whatever precision the user made it, it takes the pixels that describe it.
        return freeze(built, _made_on(built), torch.float32)
    return built.eval() if isinstance(built, nn.Module) else built


def _arguments(found: Any) -> list[str]:
    """The names of those that a callable cannot be called without; none where that is not known."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return []
    return [one.name for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def _failed(what: str, error: Exception, target: str) -> CodeFailed:
    return CodeFailed(f"{what}: {type(error).__name__}: {first_line(error)}", where=target, fix="Run it in Python alone to see where.")


def _made_on(function: Callable[[Tensor], Tensor]) -> torch.device:
    """Where a module's weights are; the CPU for a function and for a module without any."""
    first = next(function.parameters(), None) if isinstance(function, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


def _probe_pixels() -> Tensor:
    return torch.rand(1, 3, *_PROBE, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def _call(function: Callable[[Tensor], Tensor], pixels_B3HW: Tensor, name: str) -> Tensor:
    try:
        features = function(pixels_B3HW)
    except (UserError, torch.OutOfMemoryError):
        raise  # the second is a RuntimeError, too, but no mistake of the function's
    except Exception as error:
        height, width = pixels_B3HW.shape[-2:]
        given = f"given {pixels_B3HW.dtype} pixels on {pixels_B3HW.device}, it raised {type(error).__name__}: {first_line(error)}"
        raise CodeFailed(
            given,
            where=name,
            fix="Return an nn.Module, which is moved and cast as the pixels are, or move and cast the pixels in the function. "
            f"It has to take images of any size, as this one of {height} x {width}; wrap a model of one size in an Encoder with a spec.",
        ) from error
    if not isinstance(features, Tensor) or features.ndim != 4 or not features.is_floating_point():
        given = f"{features.dtype} {list(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
        raise UserError(f"it gave {given} for pixels", where=name, fix="Return floating-point features [B, D, h, w] or [B, h, w, D].")
    return features


def _from_spec(spec: EncoderSpec) -> dict[str, Any]:
    names = (
        "patch_size",
        "embed_dim",
        "depth",
        "mean",
        "std",
        "resolution",
        "global_tokens",
        "has_text",
        "license",
        "pad",
        "preprocessing",
    )
    return {name: getattr(spec, name) for name in names}


def _from_output(function: Callable[[Tensor], Tensor], target: str) -> dict[str, Any]:
    _, first, second, third = _call(function, _probe_pixels().to(_made_on(function)), target).shape
    is_last, is_first = second == 2 * first, third == 2 * second
    height, dim = (first, third) if is_last else (second, first)
    if is_last == is_first or _PROBE[0] % height:
        raise UserError(
            f"it gave {[1, first, second, third]} for an image of {_PROBE[0]} x {_PROBE[1]} pixels: the number of patches cannot be found",
            where=target,
            fix="Return [B, D, h, w] or [B, h, w, D] with one grid cell per patch, or write an Encoder with a spec.",
        )
    return {
        "patch_size": _PROBE[0] // height,
        "embed_dim": dim,
        "depth": 1,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "resolution": _PROBE[0],
        "global_tokens": 0,
        "license": "unknown",
    }
