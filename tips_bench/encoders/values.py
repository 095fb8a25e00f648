"""The value path of towers that meet text: what a patch says by itself, before attention mixes it with others.

MaskCLIP (Zhou et al., ECCV 2022) and google-deepmind/tips (pytorch/TIPS_zeroshot_segmentation.ipynb) let each token of the last block keep
its own value in place of attention's mean of values; residual, feed-forward, final norm and projection stay. A token that attends to
itself alone has exactly that, so the block is run a second time under a mask that lets it, and no source's block is written again here.

Where the image's embedding is pooled by an attention after the last block (SigLIP, PE-Core), that attention is the one that gathers the
patches for the text, and each patch is pooled alone; the last block stays as it is. That reading of the rule is ours.

Axes: B batch, N tokens, P = h w patches, D feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.encoders.base import ImageFeatures


@dataclass
class Watched:
    """A block and what it was last called with. mask: the name of its argument for a mask that is added to attention's scores."""

    block: nn.Module
    mask: str
    input_BND: Tensor = field(default_factory=lambda: torch.empty(0))
    options: dict[str, Any] = field(default_factory=dict)

    def alone(self) -> Tensor:
        """[B,N,D]: the block's output if each token attended to itself alone; after the block has run."""
        x_BND = self.input_BND
        mask_NN = torch.full((x_BND.shape[1],) * 2, -torch.inf, dtype=x_BND.dtype, device=x_BND.device).fill_diagonal_(0)
        found = self.block(x_BND, **{**self.options, self.mask: mask_NN})
        return found if isinstance(found, Tensor) else found[0]


@contextmanager
def watched(block: nn.Module, mask: str) -> Iterator[Watched]:
    """Keeps what a block is called with while the context lasts."""
    kept = Watched(block, mask)

    def keep(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        kept.input_BND, kept.options = inputs[0], options

    hook = block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield kept
    finally:
        hook.remove()


def pooled_alone(pool: Callable[[Tensor], Tensor], tokens_BPD: Tensor) -> Tensor:
    """[B,P,D]: what `pool`, [B,N,D] -> [B,D], gives where it sees one patch only."""
    return pool(tokens_BPD.flatten(0, 1)[:, None]).unflatten(0, tokens_BPD.shape[:2])


def with_values(found: ImageFeatures, layers: tuple[int, ...], final: int, values_BPD: Tensor) -> ImageFeatures:
    """The features with the value path in place of the patches of the layer `final`."""
    grid = tuple(found.patches[0].shape[1:3])
    values_BhwD = values_BPD.unflatten(1, grid)
    patches = [values_BhwD if layer == final else patches for layer, patches in zip(layers, found.patches, strict=True)]
    return ImageFeatures(found.globals_BKD, patches, found.layer_globals)
