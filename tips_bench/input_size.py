"""The sizes in pixels of a protocol: scaled together, or for another size of the input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tips_bench.errors import UserError

AUGMENT = ("crop_size", "short_side", "long_side", "size", "crop")
SIZES = (("image", "short_side"), ("image", "crop"), ("inference", "window"), ("inference", "stride"))


def scale(protocol: dict[str, Any], factor: float, more: Iterable[tuple[str, str]] = ()) -> None:
    """Multiply the sizes of a protocol card, as plain data, in place. more: (part, key) of further ones."""
    augment = protocol["probe"].get("augment") or {}
    keys = [*((protocol[part], key) for part, key in (*SIZES, *more)), *((augment, key) for key in AUGMENT)]
    for part, key in keys:
        if key in part:
            part[key] = _scaled(part[key], factor)


def bring_to(protocol: dict[str, Any], size: int) -> None:
    """Give the network input of a protocol card, as plain data, another size in pixels, in place; windows and training crops follow.

    size: of the short side of what the encoder gets, or of the crop where there is one.
    Errors: a protocol whose input is as large as the image, or as the model's publisher has it.
    """
    image, where = protocol["image"], f"protocol {protocol['name']}, image"
    if image.get("from_encoder"):
        fix = "Choose a protocol with image.short_side."
        raise UserError("the input size is that of the model's own preprocessing and cannot be chosen", where=where, fix=fix)
    own = image["crop"] or image["short_side"]
    if own is not None:
        scale(protocol, size / own, [("image", "long_side")])
        return
    if not image["native"] or protocol["inference"]["window"] or protocol["probe"].get("augment"):
        problem = "there is no input size in pixels from which windows and training crops could be scaled"
        raise UserError(problem, where=where, fix="Choose a protocol with image.short_side, or leave @SIZE out.")
    ratio = image.pop("crop_ratio", None)
    image |= {"native": False, "short_side": size} if ratio is None else {"native": False, "short_side": int(size / ratio), "crop": size}


def _scaled(pixels: Any, factor: float) -> Any:
    if isinstance(pixels, list):
        return [_scaled(one, factor) for one in pixels]
    return None if pixels is None else max(1, round(pixels * factor))
