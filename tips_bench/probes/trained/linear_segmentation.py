"""The published linear protocols of segmentation: random crops, AdamW, a fixed number of iterations; many heads on one backbone pass.

A grid of one point is trained on the whole training split, as published. A larger grid is trained on the split less a held-out
part, on which the head is chosen with the protocol's own inference; never on the scored split.

Axes: B batch, H W pixels of a crop, h w token grid, S heads, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from tips_bench.cards import parse
from tips_bench.data.base import SegmentationReader, SegmentationSample
from tips_bench.data.crops.base import CropBatches, NumberedCrops
from tips_bench.data.crops.segmentation import AugmentCard, TrainCrops
from tips_bench.data.crops.segmentation_pillow import PillowCrops
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.files import digest
from tips_bench.metrics.segmentation import count, summary
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.trained.cross_entropy import upsampled_cross_entropy
from tips_bench.probes.trained.head_sweep import HeadSweep
from tips_bench.probes.trained.loop import SweepTrainee, Training, TrainingOptions, train_val_split
from tips_bench.progress import bar


class LinearOptions(TrainingOptions):
    """The knobs of `linear`."""

    augment: AugmentCard


class LinearProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(LinearHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(LinearOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Train all heads, choose one off the held-out part where there are several."""
        options, extractor, reader = self.options, context.extractor, train.reader
        grid = options.grid
        fitted, held = train_val_split(context, train, len(grid))
        crops = _crops(reader, options.augment, fitted, context)
        sweep = HeadSweep(
            len(grid),
            extractor.dim,
            len(reader.classes),
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            dropout_first=options.dropout_first,
            seed=context.seed,
        )
        trainee = SweepTrainee(options, extractor, sweep, cross_entropy)
        training = Training(
            options.iterations,
            options.checkpoint_every,
            CropBatches(crops, options.batch_size, extractor.world),
            context.folder / "linear.pt",
            digest(options.model_dump_json(), context.seed, *train.part(fitted).ids),
            extractor.encoder,
            extractor.workers,
            extractor.world,
        )
        losses_S = training.run(trainee)
        heads = [sweep.head(index) for index in range(len(grid))]
        choice = self._choose(context, train.part(held), heads, losses_S) if held else None
        chosen = choice.index if choice else 0
        if not math.isfinite(losses_S[chosen]):
            raise UserError(f"the probe diverged: its loss is {losses_S[chosen]}", fix="Lower the learning rate: --set probe.lr=[1e-4].")
        report = {"iterations": options.iterations, "loss": losses_S[chosen], **vars(grid[chosen])}
        return Fit(heads[chosen], report, choice)

    def _choose(self, context: RunContext, held: Split, heads: list[LinearHead], losses_S: list[float]) -> Choice:
        classes = len(held.reader.classes)
        counts_S3C = np.zeros((len(heads), 3, classes), dtype=np.int64)
        with bar("choosing the head", len(held)) as advance:
            for prediction in context.inference.predict(held.reader, held.indices, heads):
                for head, predicted_HW in enumerate(prediction.predicted_SHW):
                    counts_S3C[head] += count(predicted_HW, prediction.sample.labels_HW, classes, where=prediction.sample.id)
                advance()
        counts_S3C = np.sum(context.extractor.world.gather(counts_S3C), axis=0)
        scores_S = np.where(np.isfinite(losses_S), summary(counts_S3C)["mIoU"], np.nan)
        grid = [vars(point) for point in self.options.grid]
        best = int(np.nanargmax(scores_S)) if np.isfinite(scores_S).any() else 0
        return Choice(grid, [None if math.isnan(score) else float(score) for score in scores_S], best, len(held))


def _crops(reader: SegmentationReader, card: AugmentCard, fitted: list[int], context: RunContext) -> NumberedCrops[SegmentationSample]:
    """Crops as the card says; they are padded with the encoder's mean color, which is 0 after normalization."""
    mean = context.encoder.spec.mean
    if card.library == "pillow":
        return PillowCrops(reader, card, indices=fitted, seed=context.seed, fill=mean)
    red, green, blue = (round(255 * value) for value in mean)
    return TrainCrops(reader, card, indices=fitted, seed=context.seed, fill=(red, green, blue))


def cross_entropy(logits_BSChw: Tensor, labels_BHW: Tensor, padding: tuple[int, int, int, int], iteration: int) -> Tensor:
    """losses_S at the resolution of the crops."""
    size, grid = (labels_BHW.shape[-2], labels_BHW.shape[-1]), (logits_BSChw.shape[-2], logits_BSChw.shape[-1])
    upsampling = Upsampling.of(grid, padding, Windows(size, size, (0,), (0,)), size, logits_BSChw.device)
    return upsampled_cross_entropy(logits_BSChw, labels_BHW, upsampling)
