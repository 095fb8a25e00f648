"""The class of each pixel from its cosines with all names: a softmax over names, the best name of each class, and what is background.

Source: postprocess_result of wangf3014/SCLIP b56bd30, clip_segmentor.py:148-170, which NACLIP, ClearCLIP and ProxyCLIP have, too.

Axes: T names, C classes, H W pixels of the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tips_bench.probes.training_free.class_names import TextHead, TextOptions


def pixel_classes(cosines: Iterable[Tensor], head: TextHead, options: TextOptions, scale: float, background: int | None) -> np.ndarray:
    """class_HW, uint8. cosines: [T, rows, W] pieces from the top. scale: of the softmax. background: the class of pixels without another.

    A class with too small a share of all pixels that are not background loses them to the next best; a pixel whose best probability is
    below the threshold is background.
    """
    shares: Iterator[Tensor] = (_of_classes(piece_TrW, head, scale) for piece_TrW in cosines)
    if options.area_threshold is not None and background is not None:
        shares = iter([_without_small(torch.cat(list(shares), 1), options.area_threshold, background)])
    found = []
    for share_CrW in shares:
        best_rW, place_rW = share_CrW.max(0)
        if background is not None:
            place_rW = place_rW.masked_fill(best_rW < options.probability_threshold, background)
        found.append(place_rW.to(torch.uint8).cpu())
    return torch.cat(found).numpy()


def _of_classes(cosines_TrW: Tensor, head: TextHead, scale: float) -> Tensor:
    """[C, rows, W]: the greatest probability of a class's names."""
    probabilities_TrW = (scale * cosines_TrW).softmax(0)
    best_CrW = probabilities_TrW.new_zeros(len(head.id_C), *cosines_TrW.shape[1:])
    place_TrW = head.name_T.to(cosines_TrW.device)[:, None, None].expand_as(probabilities_TrW)
    return best_CrW.scatter_reduce(0, place_TrW, probabilities_TrW, "amax")


def _without_small(share_CHW: Tensor, threshold: float, background: int) -> Tensor:
    """[C,H,W] with zeros for the classes that have too few pixels."""
    pixels_C = torch.bincount(share_CHW.argmax(0).flatten(), minlength=len(share_CHW))
    pixels_C[background] = 0
    kept_C = pixels_C > threshold * pixels_C.sum()
    kept_C[background] = True
    return share_CHW * kept_C[:, None, None]
