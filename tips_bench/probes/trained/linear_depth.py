"""The probe `linear-bins`: the published linear protocols of depth; many heads on one backbone pass.

A grid of one point is trained on the whole training split, as published. A larger grid is trained on the split less a held-out
part, on which the head of the least RMSE is chosen with the protocol's own inference; never on the scored split.

Axes: B batch, S heads, C bins, h w token grid, H W pixels of a crop.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from tips_bench.cards import parse
from tips_bench.data.crops.base import CropBatches
from tips_bench.data.crops.depth import DepthAugmentCard, DepthCrops
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.files import digest
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.depth_bins import Bins, BinsHead
from tips_bench.probes.pixel_targets import DepthTarget, PixelTarget
from tips_bench.probes.trained.head_sweep import HeadSweep
from tips_bench.probes.trained.loop import SweepTrainee, Training, TrainingOptions, train_val_split
from tips_bench.probes.trained.pixel_losses import Between, gradient_loss, log_residual, scale_invariant_loss
from tips_bench.progress import bar


class LinearBinsOptions(TrainingOptions):
    """The knobs of `linear-bins`.

    bins: their number; min_depth, max_depth: the first and the last, in metres; floor, factor: as in Bins. initial: weights from a normal
    distribution of deviation 0.01 with bias 0, or as torch begins a convolution. With r = log(depth + epsilon) - log(truth + epsilon)
    the loss is sqrt(var(r) + scale_weight * mean(r)^2) + gradient_weight * (differences of r between neighbors, or between images, as
    gradient_between says); the variance is left out in the first loss_warmup iterations. loss_images: the loss is taken over so many
    images at a time, and its mean is learned from, as where each GPU has so many of a batch; null = over all at once.
    """

    bins: int = Field(gt=1)
    min_depth: float = Field(gt=0)
    max_depth: float
    floor: float = Field(gt=0)
    factor: int = Field(gt=0)
    initial: Literal["normal", "torch"]
    epsilon: float = Field(gt=0)
    scale_weight: float = Field(ge=0, le=1)
    gradient_weight: float = Field(ge=0)
    gradient_between: Between = "pixels"
    loss_warmup: int = Field(ge=0)
    loss_images: int | None = Field(None, gt=0)
    augment: DepthAugmentCard

    @model_validator(mode="after")
    def _has_room(self) -> LinearBinsOptions:
        if self.min_depth >= self.max_depth:
            raise ValueError("min_depth is not below max_depth")
        if self.loss_images is not None and self.batch_size % self.loss_images:
            raise ValueError(f"batch_size = {self.batch_size} is no multiple of loss_images = {self.loss_images}")
        return self


class LinearBinsProbe:
    """Built from a card's `probe` mapping, for depth."""

    reads_train = True
    load = staticmethod(BinsHead.load)

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget) -> None:
        self.options = parse(LinearBinsOptions, options, where=where, prefix="probe.")
        if not isinstance(target, DepthTarget):
            raise UserError("probe.type = linear-bins predicts depth", where=where, fix="Use a protocol for this family.")
        self.target = target
        self.bins = Bins((self.options.min_depth, self.options.max_depth), self.options.floor, self.options.factor)

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Train all heads, choose one off the held-out part where there are several."""
        options, extractor, reader = self.options, context.extractor, train.reader
        grid = options.grid
        fitted, held = train_val_split(context, train, len(grid))
        sweep = HeadSweep(
            len(grid),
            extractor.dim,
            options.bins,
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            dropout_first=options.dropout_first,
            seed=context.seed,
            initial=options.initial,
        )
        training = Training(
            options.iterations,
            options.checkpoint_every,
            CropBatches(DepthCrops(reader, options.augment, fitted, context.seed), options.batch_size, extractor.world),
            context.folder / "linear-bins.pt",
            digest(options.model_dump_json(), context.seed, *train.part(fitted).ids),
            extractor.encoder,
            extractor.workers,
            extractor.world,
        )
        losses_S = training.run(SweepTrainee(options, extractor, sweep, self.loss))
        heads = [BinsHead(sweep.head(index), self.bins) for index in range(len(grid))]
        choice = self._choose(context, train.part(held), heads, losses_S) if held else None
        chosen = choice.index if choice else 0
        if not math.isfinite(losses_S[chosen]):
            raise UserError(f"the probe diverged: its loss is {losses_S[chosen]}", fix="Lower the learning rate: --set probe.lr=[1e-5].")
        report = {"iterations": options.iterations, "loss": losses_S[chosen], **vars(grid[chosen])}
        return Fit(heads[chosen], report, choice)

    def loss(self, logits_BSChw: Tensor, truth_BHW: Tensor, padding: tuple[int, int, int, int], iteration: int) -> Tensor:
        """losses_S at the resolution of the crops."""
        depth_BShw = self.bins.depth(logits_BSChw)
        grid, size = (depth_BShw.shape[-2], depth_BShw.shape[-1]), (truth_BHW.shape[-2], truth_BHW.shape[-1])
        depth_BSHW = Upsampling.of(grid, padding, Windows(size, size, (0,), (0,)), size, depth_BShw.device)(depth_BShw)
        together = self.options.loss_images or len(truth_BHW)
        parts = zip(depth_BSHW.split(together), truth_BHW.split(together), strict=True)
        return torch.stack([self._losses(depth, truth, iteration) for depth, truth in parts]).mean(0)

    def _losses(self, depth_BSHW: Tensor, truth_BHW: Tensor, iteration: int) -> Tensor:
        """losses_S over the images of one GPU, as it were."""
        options, known_BHW, losses = self.options, truth_BHW > 0, []
        for depth_BHW in depth_BSHW.unbind(1):
            residual_BHW = log_residual(depth_BHW, truth_BHW, options.epsilon)
            if iteration < options.loss_warmup:
                mean = residual_BHW.sum() / known_BHW.sum().clamp_min(1)
                loss = math.sqrt(options.scale_weight) * mean.abs()
            else:
                loss = scale_invariant_loss(residual_BHW, known_BHW, 1 - options.scale_weight, correction=1)
            if options.gradient_weight:
                loss = loss + options.gradient_weight * gradient_loss(residual_BHW, known_BHW, options.gradient_between)
            losses.append(loss)
        return torch.stack(losses)

    def _choose(self, context: RunContext, held: Split, heads: list[BinsHead], losses_S: list[float]) -> Choice:
        target, world = self.target, context.extractor.world
        own: dict[int, list[np.ndarray]] = {}
        with bar("choosing the head", len(held)) as advance:
            for found in context.inference.values(held.reader, held.indices, heads, target.unmirror):
                maps = [target.finished(values_THW).cpu().numpy() for values_THW in found.values_STHW]
                own[found.index] = [target.count(values_THW, found.sample, where=found.sample.id) for values_THW in maps]
                advance()
        sums_of = {index: sums for part in world.gather(own) for index, sums in part.items()}
        sums = [sums_of[index] for index in held.indices]
        scores_S = np.where(np.isfinite(losses_S), target.summary(np.sum(sums, axis=0))[target.selection], np.nan)
        best = int(np.nanargmin(scores_S)) if np.isfinite(scores_S).any() else 0
        scores = [None if math.isnan(score) else float(score) for score in scores_S]
        return Choice([vars(point) for point in self.options.grid], scores, best, len(held), target.selection)
