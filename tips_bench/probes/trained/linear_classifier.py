"""The probe `whole-linear`: DINOv2's linear evaluation, all its heads in one pass over the training crops.

Random resized crops, SGD with momentum, a cosine to 0; a head for each learning rate, number of last blocks and use of the mean of the
patches (dinov2/eval/linear.py). There the best head on the scored split is reported; here it is chosen on a held-out part of the training
split, and theirs is reported under its own name.

Axes: B batch, H W pixels of a crop, F features of an image, S heads.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tips_bench.cards import Strict, parse
from tips_bench.data.crops.base import CropBatches
from tips_bench.data.crops.resized import ResizedCropCard, ResizedCrops
from tips_bench.data.split import Split
from tips_bench.encoders.waiting import sent
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.files import digest
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.image_heads import AffineHeads, best_of, rank_all
from tips_bench.probes.trained.classifier_sweep import ClassifierSweep, Inputs
from tips_bench.probes.trained.loop import Training, train_val_split
from tips_bench.probes.trained.schedules import lr_factor

LR_BATCH = 256  # images for which a learning rate is stated; the rate grows with the batch (dinov2/eval/linear.py, scale_lr)


class LinearClassifierOptions(Strict):
    """The knobs of `whole-linear`. lr: for 256 images. blocks, mean: inputs of the heads; the grid is the product of all three.

    checkpoint_every: iterations between checkpoints.
    """

    type: str
    iterations: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: list[float] = Field(min_length=1)
    blocks: list[int] = Field(min_length=1)
    mean: list[bool] = Field(min_length=1)
    momentum: float = Field(ge=0, lt=1)
    crops: ResizedCropCard
    checkpoint_every: int = Field(gt=0)

    @property
    def inputs(self) -> list[Inputs]:
        """Each number of blocks, without and with the mean, as the card orders them."""
        return [Inputs(blocks, mean) for blocks, mean in product(self.blocks, self.mean)]

    @property
    def grid(self) -> list[dict[str, float]]:
        """All heads in the order of the sweep."""
        return [{"blocks": inputs.blocks, "mean": int(inputs.mean), "lr": lr} for inputs in self.inputs for lr in self.lr]


class LinearClassifierProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(AffineHeads.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(LinearClassifierOptions, options, where=where, prefix="probe.")

    def embedding(self, extractor: Extractor) -> ImageEmbedding:
        """What of an image is looked at. Errors: more blocks than the protocol takes layers."""
        if max(self.options.blocks) > len(extractor.layers) or min(self.options.blocks) < 1:
            problem = f"probe.blocks = {self.options.blocks}: the protocol takes {len(extractor.layers)} layers"
            raise UserError(problem, fix="Let features.layers name as many.")
        return ImageEmbedding.tokens(extractor, mean=True)

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Train all heads on the training split, less a held-out part where there are several, and choose one on that part."""
        options, reader, extractor = self.options, train.reader, context.extractor
        embedding, device = self.embedding(extractor), extractor.encoder.device
        fitted, held = train_val_split(context, train, len(options.grid))
        layers, dim = len(extractor.layers), extractor.encoder.spec.embed_dim
        sweep = ClassifierSweep(
            [inputs.columns(dim, layers) for inputs in options.inputs],
            [lr * options.batch_size / LR_BATCH for lr in options.lr],
            len(reader.classes),
            momentum=options.momentum,
            seed=context.seed,
            device=device,
        )
        training = Training(
            options.iterations,
            options.checkpoint_every,
            CropBatches(ResizedCrops(reader, options.crops, fitted, context.seed), options.batch_size, extractor.world),
            context.folder / "whole-linear.pt",
            digest(options.model_dump_json(), context.seed, *train.part(fitted).ids),
            extractor.encoder,
            extractor.workers,
            extractor.world,
        )
        losses_S = training.run(_Trainee(options, embedding, extractor, sweep))
        heads, choice = AffineHeads(sweep.heads(), None).on(device), None
        if held:
            store = encode_images(extractor, train.part(held), embedding, context.scratch, "held-out-whole")
            scores, best = best_of(rank_all(heads, store.arrays["features"], reader.labels_N[held]))
            context.scratch.finish(store)
            choice = Choice(options.grid, scores, best, len(held))
            heads.choice = best
        chosen = heads.choice or 0
        if not np.isfinite(losses_S[chosen]):
            raise UserError(f"the probe diverged: its loss is {losses_S[chosen]}", fix="Lower the learning rate: --set probe.lr=[1e-3].")
        return Fit(heads, {"iterations": options.iterations, "loss": losses_S[chosen], **options.grid[chosen]}, choice)


class _Trainee:
    """The sweep on what is looked at of each crop."""

    def __init__(self, options: LinearClassifierOptions, embedding: ImageEmbedding, extractor: Extractor, sweep: ClassifierSweep) -> None:
        self.options, self.embedding, self.extractor, self.sweep = options, embedding, extractor, sweep
        self.state, self.restore = sweep.state, sweep.restore

    def step(self, iteration: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        """One step of every head; losses_S before it."""
        pixels_B3HW, labels_B = batch
        features_BF = torch.cat([self.embedding.encode(piece.float() / 255) for piece in pixels_B3HW.split(self.extractor.batch_size)])
        world = self.extractor.world
        features_BF, labels_B = world.gather_rows(features_BF), world.gather_rows(sent(labels_B, features_BF.device))
        factor = lr_factor("cosine", iteration, self.options.iterations, 0, 1.0)
        return self.sweep.step(features_BF.float(), labels_B, factor)
