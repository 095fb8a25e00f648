"""Sizes in pixels for encoders of other patches: DINOv3's rule that every encoder sees the same number of patches."""

from __future__ import annotations

from tips_bench.cards import ProtocolCard, parse
from tips_bench.input_size import scale


def for_patches(protocol: ProtocolCard, patch_size: int) -> ProtocolCard:
    """The protocol as it is applied to an encoder with patches of `patch_size` pixels: sizes scaled where the card says for which they are.

    512 px for patches of 16 px become 448 px for patches of 14 px; a stride of 341 px becomes 298 px.
    """
    if protocol.patch_size is None or protocol.patch_size == patch_size:
        return protocol
    data = protocol.model_dump(mode="json")
    scale(data, patch_size / protocol.patch_size)
    return parse(ProtocolCard, data | {"patch_size": patch_size}, where=f"protocol {protocol.name}")
