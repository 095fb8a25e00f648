"""What MaskCLIP may do to the cosines of an image: leave out classes that are hardly there, and smooth patches by their keys.

Source: refine_output of chongzhou96/MaskCLIP 245d31f, mmseg/models/decode_heads/maskclip_head.py:129-155, which calls them prompt denoising
(pd_thresh) and key smoothing (ks_thresh).

Axes: C classes, h w token grid, P = h w patches, D feature of a key.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SCALE = 100.0  # of the cosines in the softmax
ABSENT = -100.0  # the score of a class that is left out


def without_absent(cosines_1Chw: Tensor, threshold: float) -> Tensor:
    """The cosines, with ABSENT for each class that has in no patch a share of the softmax over classes of at least the threshold."""
    share_1C = (SCALE * cosines_1Chw).softmax(1).amax((2, 3))
    return cosines_1Chw.masked_fill((share_1C < threshold)[..., None, None], ABSENT)


def smoothed(cosines_1Chw: Tensor, keys_1hwD: Tensor, threshold: float) -> Tensor:
    """[1,C,h,w] shares of the softmax over classes.

    A patch whose best share is below the threshold gets the sum of the shares of all patches, weighted by the products of their keys. Each
    feature of a key is divided by its norm over all patches, as the source does it.
    """
    share_1CP = (SCALE * cosines_1Chw).softmax(1).flatten(2)
    keys_1PD = F.normalize(keys_1hwD.float().flatten(1, 2), dim=1)
    spread_1CP = share_1CP @ (keys_1PD @ keys_1PD.mT)
    unsure_11P = share_1CP.amax(1, keepdim=True) < threshold
    return spread_1CP.where(unsure_11P, share_1CP).unflatten(2, cosines_1Chw.shape[2:])
