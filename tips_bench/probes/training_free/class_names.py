"""Classes by their names: cosines of patch features and text embeddings, and a threshold below which a pixel is background.

Nothing is trained. Where a protocol leaves the threshold open it is chosen on a held-out part of the TRAINING split: candidates are
the scores below which given shares of its pixels lie, so that they suit any scale of scores.

Axes: N windows of an image, h w token grid, D feature, T names, C classes that compete, H W pixels of the labels, P pixels kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import Strict
from tips_bench.data.base import IGNORE
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Upsampling, Windows, interpolation
from tips_bench.features.probabilities import Probabilities
from tips_bench.features.prompts import check_prompts
from tips_bench.files import digest
from tips_bench.metrics.segmentation import count, summary
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Choice
from tips_bench.probes.solved.patch_bank import choose
from tips_bench.probes.training_free.pamr import Pamr
from tips_bench.progress import bar

KEPT_PIXELS = 20_000  # of a held-out image, on which a threshold is chosen

# (index, sample, best score of each pixel float32, its class id uint8, features_NhwD)
Scored = tuple[int, Any, np.ndarray, np.ndarray, Tensor]


class TextOptions(Strict):
    """The knobs of a text protocol.

    prompts: texts with {} for the name, or "openai-80", OpenAI's for ImageNet. softmax: factor of the cosines in a softmax over classes in
    each window, before windows are averaged; null = cosines are averaged. upsample: "image" brings cosines to the image as resized and from
    there to the labels' size, "labels" straight to the labels' size. background: of a set that has one: "names" lets it compete by its
    names, "threshold" gives it the pixels on which no other class scores `threshold`; null = it is chosen on training images, among the
    scores below which the `shares` of their pixels lie. vocabulary: which of the task's vocabularies has the names; null = the task's
    `names`.

    logit_scale: factor of the averaged cosines in a softmax over all names at the size of the labels, after which each class has the
    greatest probability of its names; null = the greatest cosine of a class's names counts. With it: probability_threshold, below which a
    pixel is background; area_threshold, the share of the pixels that are not background, up to which a class loses its pixels; pamr,
    which refines the cosines before the softmax.

    absent, smooth: as in tips_bench.probes.training_free.maskclip; null = neither.
    """

    type: Literal["text"]
    prompts: list[str] | Literal["openai-80"]
    softmax: float | None = Field(gt=0)
    upsample: Literal["image", "labels"]
    background: Literal["names", "threshold"]
    threshold: float | None = None
    shares: list[float] = []
    vocabulary: str | None = None
    logit_scale: float | None = Field(None, gt=0)
    probability_threshold: float = Field(0.0, ge=0, lt=1)
    area_threshold: float | None = Field(None, ge=0, lt=1)
    pamr: Pamr | None = None
    absent: float | None = Field(None, gt=0, le=1)
    smooth: float | None = Field(None, gt=0, le=1)

    @field_validator("prompts")
    @classmethod
    def _have_a_place(cls, prompts: list[str] | str) -> list[str] | str:
        return check_prompts(prompts) if isinstance(prompts, list) else prompts

    @model_validator(mode="after")
    def _one_threshold(self) -> TextOptions:
        if self.upsample == "labels" and self.softmax is not None:
            raise ValueError("a softmax is taken in the pixels of the image: set upsample to image")
        if self.background == "names" and (self.threshold is not None or self.shares):
            raise ValueError("background names has no threshold: leave threshold and shares out")
        if self.background == "threshold" and (self.threshold is None) != bool(self.shares):
            raise ValueError("background threshold needs either threshold or shares")
        if any(not 0 <= share < 1 for share in self.shares) or sorted(set(self.shares)) != self.shares:
            raise ValueError("shares ascend from 0 to below 1")
        return self

    @model_validator(mode="after")
    def _one_softmax(self) -> TextOptions:
        if self.logit_scale is None and (self.probability_threshold or self.area_threshold is not None or self.pamr is not None):
            raise ValueError("probability_threshold, area_threshold and pamr need a logit_scale")
        if self.logit_scale is not None and (self.softmax is not None or self.upsample != "image" or self.background != "names"):
            raise ValueError("logit_scale needs softmax null, upsample image and background names")
        return self


@dataclass(frozen=True)
class Threshold:
    """The score below which a pixel is background."""

    value: float

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        save_npz(path, threshold=np.float64(self.value))

    @classmethod
    def load(cls, path: Path) -> Threshold:
        """Read what `save` wrote. Errors: a broken file."""
        return read_npz(path, "threshold", lambda data: cls(float(data["threshold"])))


@dataclass(frozen=True)
class TextHead:
    """weight_TD: unit text embeddings of names. name_T: the place in C of each name's class. id_C: ids of the classes that compete."""

    weight_TD: Tensor
    name_T: Tensor
    id_C: Tensor

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h,w] cosines in float32, the greatest over the names of a class."""
        name_T, cosines_NhwT = self.name_T.to(features_NhwD.device), self.cosines(features_NhwD)
        best_NhwC = cosines_NhwT.new_full((*cosines_NhwT.shape[:3], len(self.id_C)), -torch.inf)
        best_NhwC.scatter_reduce_(-1, name_T.expand_as(cosines_NhwT), cosines_NhwT, "amax")
        return best_NhwC.permute(0, 3, 1, 2)

    def cosines(self, features_NhwD: Tensor) -> Tensor:
        """[N,h,w,T] in float32, with each name."""
        return F.normalize(features_NhwD.float(), dim=-1) @ self.weight_TD.to(features_NhwD.device).T

    def without(self, id: int) -> TextHead:
        """The head in which class `id` does not compete."""
        place = int(torch.nonzero(self.id_C == id)[0, 0])
        others_T = self.name_T != place
        name_T = self.name_T[others_T]
        return TextHead(self.weight_TD[others_T], name_T - (name_T > place).long(), self.id_C[self.id_C != id])


def score_rows(
    cosines_NChw: Tensor, options: TextOptions, windows: Windows, padding: tuple[int, int, int, int], outer: tuple[int, int]
) -> Iterator[Tensor]:
    """[C, rows, W] class scores at the size of the labels, a few rows at a time from the top."""
    grid, device = (cosines_NChw.shape[2], cosines_NChw.shape[3]), cosines_NChw.device
    if options.softmax is not None:
        return Probabilities.of(grid, padding, windows, outer, device).row_chunks(options.softmax * cosines_NChw)
    if options.upsample == "labels":
        rows, columns = (interpolation(tokens, pixels) for tokens, pixels in zip(grid, outer, strict=True))
        return Upsampling.by(rows, columns, device).row_chunks(cosines_NChw[0])
    return Upsampling.of(grid, padding, windows, outer, device).row_chunks(windows.mosaic(cosines_NChw))


def best_class(chunks: Iterator[Tensor], id_C: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(greatest score_HW float32, class id_HW uint8), the lowest id on a tie."""
    found = [chunk.max(0) for chunk in chunks]
    places_HW = torch.cat([chunk.indices for chunk in found]).cpu()
    return torch.cat([chunk.values for chunk in found]).cpu().numpy(), id_C.cpu()[places_HW].to(torch.uint8).numpy()


def choose_threshold(
    context: RunContext,
    train: Split,
    score: Callable[[list[int]], Iterator[Scored]],
    shares: list[float],
    background: int,
    *identity: object,
) -> tuple[float, Choice]:
    """The threshold with the best mIoU on held-out training images, and how it was chosen.

    score: what the classes but the background give for samples of `train`. identity: what shapes the scores besides the features.
    Up to KEPT_PIXELS labelled pixels of each image count, drawn by a hash of its id. Errors: no labelled pixel.
    """
    reader, (_, held) = train.reader, train.validation(context.selection)
    rows = [min(KEPT_PIXELS, int(np.prod(reader.size(index)))) for index in held]
    arrays: dict[str, Any] = {"score": ((), "float32"), "predicted": ((), "uint8"), "label": ((), "uint8")}
    store = context.scratch.open("threshold", rows, arrays, digest(*train.part(held).ids), *identity)
    item = {index: place for place, index in enumerate(held)}
    missing = store.missing()
    with bar("threshold", len(held)) as advance:
        advance(len(held) - len(missing))
        for index, sample, score_HW, predicted_HW, _ in score([held[place] for place in missing]):
            picked = choose(sample.id, sample.labels_HW.ravel() != IGNORE, rows[item[index]])
            kept = (array_HW.ravel()[picked] for array_HW in (score_HW, predicted_HW, sample.labels_HW))
            store.write(item[index], **dict(zip(arrays, kept, strict=True)))
            advance()
    store.join()
    score_P, predicted_P, label_P = (np.array(store.arrays[name]) for name in arrays)
    context.scratch.finish(store)
    labeled_P = label_P != IGNORE
    if not labeled_P.any():
        raise UserError(f"no pixel of the {len(held)} held-out training images is labelled", where=reader.name)
    return _best(score_P[labeled_P], predicted_P[labeled_P], label_P[labeled_P], shares, background, len(reader.classes), len(held))


def _best(
    score_P: np.ndarray, predicted_P: np.ndarray, label_P: np.ndarray, shares: list[float], background: int, classes: int, held: int
) -> tuple[float, Choice]:
    thresholds = [float(value) for value in np.quantile(score_P.astype(np.float64), shares)]
    scores = []
    for threshold in thresholds:
        guess_P = np.where(score_P < threshold, np.uint8(background), predicted_P)
        scores.append(float(summary(count(guess_P[None], label_P[None], classes))["mIoU"]))
    index = int(np.argmax(scores))
    grid = [{"share": share, "threshold": threshold} for share, threshold in zip(shares, thresholds, strict=True)]
    return thresholds[index], Choice(grid, list(scores), index, held)
