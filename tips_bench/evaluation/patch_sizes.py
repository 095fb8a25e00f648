"""Sizes in pixels for encoders of other patches: DINOv3's rule that every encoder sees the same number of patches."""

from __future__ import annotations

from typing import Any

from tips_bench.cards import ProtocolCard, parse

AUGMENT = ("crop_size", "short_side", "long_side", "size", "crop")
SIZES = (("image", "short_side"), ("image", "crop"), ("inference", "window"), ("inference", "stride"))


def for_patches(protocol: ProtocolCard, patch_size: int) -> ProtocolCard:
    """The protocol as it is applied to an encoder with patches of `patch_size` pixels: sizes scaled where the card says for which they are.

    512 px for patches of 16 px become 448 px for patches of 14 px; a stride of 341 px becomes 298 px.
    """
    if protocol.patch_size is None or protocol.patch_size == patch_size:
        return protocol
    factor, data = patch_size / protocol.patch_size, protocol.model_dump(mode="json")
    augment = data["probe"].get("augment") or {}
    for part, key in (*((data[name], key) for name, key in SIZES), *((augment, key) for key in AUGMENT if key in augment)):
        part[key] = _scaled(part[key], factor)
    return parse(ProtocolCard, data | {"patch_size": patch_size}, where=f"protocol {protocol.name}")


def _scaled(pixels: Any, factor: float) -> Any:
    if isinstance(pixels, list):
        return [_scaled(one, factor) for one in pixels]
    return None if pixels is None else max(1, round(pixels * factor))
