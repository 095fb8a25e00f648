"""The part of a protocol's card that says how patch features are brought to a finer grid."""

from __future__ import annotations

from pydantic import Field

from tips_bench.strict import Strict


class UpsamplerCard(Strict):
    """A stage between features and head.

    name: of the registry UPSAMPLERS, or "module:function", called with (image [B,3,H,W], normalized by ImageNet's mean and deviation;
    features [B,D,h,w]; size (h', w')) for features [B,D,h',w']. factor: cells of the finer grid along a side of a patch. folder: a clone
    of the upsampler's repository, whose code is run. entry: which of its published models. weights: a file of that model's weights;
    null = downloaded from where the repository says.
    """

    name: str
    factor: int = Field(2, ge=2, le=64)
    folder: str | None = None
    entry: str | None = None
    weights: str | None = None
