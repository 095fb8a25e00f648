"""Which blocks of an encoder a protocol reads."""

from __future__ import annotations

from tips_bench.cards import FeatureCard
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError


def as_read(card: FeatureCard, encoder: Encoder) -> FeatureCard:
    """The card as the backbone is asked: a facet of the last block is made of what the block before gives. Errors: there is none."""
    if card.facet == "token":
        return card
    if encoder.spec.depth < 2:
        fix = "Choose a vision transformer, or a protocol with features.facet: token."
        raise UserError(f"features.facet = {card.facet}: the encoder has no block before the last", where=encoder.spec.name, fix=fix)
    return card.model_copy(update={"layers": [-2], "norm": False})


def layer_indices(layers: list[int] | str, encoder: Encoder) -> tuple[int, ...]:
    """Block indices in [0, depth) of a FeatureCard's layers.

    "even4" of 24 blocks is 4, 11, 17, 23, as DINOv2 (hub/depthers.py) and DINOv3 (eval/depth/models/encoder.py) have it, where even
    spacing gives 5. "quarters" is that even spacing, rounded up, as the released DPT heads of TIPSv2 read it: of 27 blocks 6, 13, 20, 26;
    "quarters-down" as mbanani/probe3d 1fff822 does it (evals/models/dino.py:40-45): 5, 12, 17, 26.
    Errors: a block that the encoder does not have, four where there are fewer.
    """
    if not isinstance(layers, str):
        return encoder.resolve_layers(tuple(layers))
    depth, name = encoder.spec.depth, encoder.spec.name
    if layers == "backbone":
        return (depth - 1 - encoder.head_depth,)
    if depth < 4:
        problem = f"features.layers = {layers}: encoder {name!r} has {depth} block{'s' * (depth > 1)}"
        raise UserError(problem, fix="Use a protocol that reads only the last layer, or --set features.layers=[-1].")
    if layers == "last4":
        return tuple(range(depth - 4, depth))
    if layers == "quarters":
        return tuple(-(-depth * quarter // 4) - 1 for quarter in range(1, 5))
    if layers == "quarters-down":
        return depth // 4 - 1, depth // 2 - 1, depth // 4 * 3 - 1, depth - 1
    return (4, 11, 17, 23) if depth == 24 else tuple(round(depth * quarter / 4) - 1 for quarter in range(1, 5))
