"""Labels that follow a video: each patch takes those of its nearest patches in earlier frames.

A patch looks for the `top_k` patches of the greatest cosine, in a window around its own place, in all frames that it may look at
together: those whose labels are given, and the last `context` frames before it. Its labels are the mean of theirs, weighted by
exp(cosine / temperature); all that equal the last of the `top_k` count with them, as patches of a frame that is there twice do. So DINO
carries masks through DAVIS (facebookresearch/dino 7c446df, eval_video_segmentation.py:113-150) and DINOv3's notebook does
(facebookresearch/dinov3 6876159, notebooks/segmentation_tracking.ipynb, cells 19 and 31). Only the frames that may be looked at are
held.

Axes: h w token grid, H W pixels, D feature, C labels (background, then objects), T frames, Q patches of a frame, k matches.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tips_bench.features.affinity import Matches, unit
from tips_bench.features.cosine_matches import KeyBlock, middle_of, window_cosines
from tips_bench.features.geometry import greatest
from tips_bench.strict import Strict


class PropagationOptions(Strict):
    """context: earlier frames that are looked at, beside those whose labels are given. radius, window: in patches, of a circle or square.

    upsample: "input" brings labels bilinearly to the size of the network's input and what is chosen there to that of the frame, as DINO
    does; "nearest" and "bilinear" bring them to the size of the frame, as DINOv3's notebook and its paper do.
    """

    type: Literal["propagation"]
    context: int = Field(ge=0)
    radius: float = Field(ge=0)
    window: Literal["square", "circle"]
    top_k: int = Field(gt=0)
    temperature: float = Field(gt=0)
    upsample: Literal["input", "nearest", "bilinear"]


@dataclass(frozen=True)
class _Frame:
    """A frame that is looked at. keys: its features at length 1."""

    keys: KeyBlock
    labels_hwC: Tensor


class Propagation:
    """The labels of one video, frame after frame. Features are [h,w,D] of any length, labels [h,w,C] with a sum of 1 at each patch."""

    def __init__(self, options: PropagationOptions) -> None:
        self.options = options
        self._given: list[_Frame] = []
        self._last: deque[_Frame] = deque(maxlen=options.context)

    @property
    def started(self) -> bool:
        """Whether there is a frame to look at."""
        return bool(self._given)

    def give(self, features_hwD: Tensor, labels_hwC: Tensor) -> None:
        """A frame whose labels are known; it is looked at for the whole video."""
        self._given.append(self._frame(features_hwD, labels_hwC))

    def keep(self, features_hwD: Tensor, labels_hwC: Tensor) -> None:
        """A frame whose labels were carried to it; the next `context` frames look at it."""
        self._last.append(self._frame(features_hwD, labels_hwC))

    def _frame(self, features_hwD: Tensor, labels_hwC: Tensor) -> _Frame:
        unit_PD = unit(features_hwD.flatten(0, 1))
        middle_D = self._given[0].keys.middle_D if self._given else middle_of(unit_PD)
        return _Frame(KeyBlock(unit_PD, middle_D), labels_hwC)

    def follow(self, features_hwD: Tensor) -> Tensor:
        """The labels [h,w,C] of the next frame. `keep` or `give` tells what later frames see of it."""
        frames = [*self._given, *self._last]
        found = self._matches(unit(features_hwD), [frame.keys for frame in frames])
        weights_Qk = torch.softmax(found.similarities_Qk / self.options.temperature, 1)
        labels_KC = torch.cat([frame.labels_hwC.flatten(0, 1) for frame in frames])
        labels_QkC = labels_KC[found.rows_Qk]  # a match that is not there has a weight of 0
        return (weights_Qk[..., None] * labels_QkC).sum(1).unflatten(0, features_hwD.shape[:2])

    def _matches(self, unit_hwD: Tensor, frames: list[KeyBlock]) -> Matches:
        """The top_k of every patch, and all that equal the last of them."""
        options, number = self.options, self.options.top_k + 1
        while True:
            found = window_cosines(unit_hwD, frames, number, options.radius, options.window)
            last_Q1 = found.similarities_Qk[:, options.top_k - 1 : options.top_k]
            cut_off = (found.similarities_Qk[:, -1:] == last_Q1) & last_Q1.isfinite()
            if not cut_off.any() or number >= sum(len(frame.unit_nD) for frame in frames):
                return Matches(found.similarities_Qk.masked_fill(found.similarities_Qk < last_Q1, -torch.inf), found.rows_Qk)
            number *= 2


def on_grid(ids_HW: np.ndarray, grid_hw: tuple[int, int]) -> np.ndarray:
    """ids_hw: the id in the middle of each patch, as Pillow takes it."""
    return np.asarray(Image.fromarray(ids_HW).resize(grid_hw[::-1], Image.Resampling.NEAREST))


def one_hot(ids_hw: np.ndarray, labels: int, device: torch.device | str = "cpu") -> Tensor:
    """labels_hwC, float32, of ids from 0 to `labels` - 1."""
    return F.one_hot(torch.from_numpy(ids_hw.astype(np.int64)).to(device), labels).float()


def stretched(labels_HWC: Tensor, constant: float) -> Tensor:
    """Each label brought to 0..1 over the frame. constant: what one becomes that is the same everywhere and not 0."""
    low_C, high_C = labels_HWC.amin((0, 1)), labels_HWC.amax((0, 1))
    span_C = high_C - low_C
    found_HWC = (labels_HWC - low_C) / torch.where(span_C > 0, span_C, 1)
    return torch.where(span_C > 0, found_HWC, torch.where(high_C > 0, constant, 0.0).to(found_HWC))


def ids_of(labels_hwC: Tensor, options: PropagationOptions, inner: tuple[int, int], frame: tuple[int, int]) -> np.ndarray:
    """ids_HW, uint8, at the size of the frame: the label with the greatest stretched value, the lowest of equal ones.

    inner: (height, width) of the network's input. frame: of the frame. In DINO a label that is the same everywhere divides 0 by 0, and
    the greatest of a frame is then that of the NaN; in DINOv3's notebook such a label becomes 0.
    """
    if options.upsample == "nearest":
        ids_hw = greatest(stretched(labels_hwC, 0.0), -1).cpu().numpy()
        rows, columns = (np.arange(new) * old // new for new, old in zip(frame, ids_hw.shape, strict=True))
        return ids_hw[rows[:, None], columns]
    size = inner if options.upsample == "input" else frame
    labels_1CHW = F.interpolate(labels_hwC.permute(2, 0, 1)[None], size, mode="bilinear", align_corners=False)
    constant = 1.0 if options.upsample == "input" else 0.0
    return on_grid(greatest(stretched(labels_1CHW[0].permute(1, 2, 0), constant), -1).cpu().numpy(), frame)
