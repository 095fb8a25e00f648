"""What one training step on one rank sees.

Axes in tensor names: B images of this rank, H W pixels, P patches of the global crop, L tokens of a text.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Texts:
    """The captions of a batch for one global token. int64; paddings: 1 marks padding."""

    ids_BL: Tensor
    paddings_BL: Tensor


@dataclass(frozen=True)
class Batch:
    """Images are float32 in [0, 1], not normalised.

    locals: one [B,3,h,w] for each local crop. texts[k]: contrasted with global token k, as the recipe's contrastive.captions has it; empty without a contrastive loss.
    mask_BP: bool, True where the student does not see a patch; None where the recipe has no mask.
    samples: number of each image's draw since the start of the run, over all ranks: what its randomness is seeded with.
    """

    global_B3HW: Tensor
    locals: list[Tensor]
    texts: list[Texts]
    mask_BP: Tensor | None
    samples_B: Tensor
