"""The published linear protocols: random crops, AdamW, a fixed number of iterations; many heads on one backbone pass.

A grid of one point is trained on the whole training split, as published. A larger grid is trained on the split less a held-out
part, on which the head is chosen with the protocol's own inference; never on the scored split.

Every batch is a function of (seed, iteration), so a killed run goes on from its last checkpoint to the same heads.

Axes: B batch, H W pixels of a crop, D feature, S heads.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tips_bench.cards import Strict, parse
from tips_bench.data.augment import AugmentCard, TrainCrops
from tips_bench.data.holdout import hold_out
from tips_bench.data.images import to_pixels
from tips_bench.errors import UserError
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.files import atomic, digest
from tips_bench.metrics.segmentation import count, summary
from tips_bench.probes.base import Choice, Fit, FitContext
from tips_bench.probes.head import LinearHead
from tips_bench.probes.inference import Inference
from tips_bench.probes.loss import upsampled_cross_entropy
from tips_bench.probes.schedule import lr_factor
from tips_bench.probes.sweep import GridPoint, HeadSweep, optimiser
from tips_bench.progress import bar


class LinearOptions(Strict):
    """The knobs of `linear`. lr, weight_decay: their product is the grid. checkpoint_every: iterations between checkpoints."""

    type: str
    iterations: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: list[float] = Field(min_length=1)
    weight_decay: list[float] = Field(min_length=1)
    betas: tuple[float, float]
    schedule: Literal["poly", "cosine"]
    warmup: int = Field(ge=0)
    warmup_ratio: float = Field(ge=0, le=1)
    batch_norm: bool
    dropout: float = Field(ge=0, lt=1)
    augment: AugmentCard
    checkpoint_every: int = Field(gt=0)

    @property
    def grid(self) -> list[GridPoint]:
        """All pairs of learning rate and weight decay."""
        return [GridPoint(lr, weight_decay) for lr, weight_decay in product(self.lr, self.weight_decay)]


class CropBatches(Dataset):
    """Batch number i of the crops: (pixels_B3HW, labels_BHW uint8), a function of i alone."""

    def __init__(self, crops: TrainCrops, batch_size: int) -> None:
        self.crops, self.batch_size = crops, batch_size

    def __getitem__(self, iteration: int) -> tuple[Tensor, Tensor]:
        numbers = range(iteration * self.batch_size, (iteration + 1) * self.batch_size)
        images, labels = zip(*(self.crops.crop(number) for number in numbers), strict=True)
        return torch.stack([to_pixels(image_HW3) for image_HW3 in images]), torch.from_numpy(np.stack(labels))


class LinearProbe:
    """Built from a card's `probe` mapping."""

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(LinearOptions, options, where=where, prefix="probe.")

    def fit(self, context: FitContext) -> Fit:
        """Train all heads, choose one off the held-out part where there are several."""
        grid = self.options.grid
        kept, held = context.indices, []
        if len(grid) > 1:
            ids = [context.reader.ids[index] for index in context.indices]
            groups = [context.reader.groups[index] for index in context.indices]
            parts = hold_out(ids, groups, context.selection.fraction, context.selection.max_images)
            kept, held = ([context.indices[i] for i in part] for part in parts)
        training = _Training(self.options, context, kept)
        losses_S = training.run()
        heads = [training.sweep.head(index) for index in range(len(grid))]
        choice = self._choose(context, heads, held, losses_S) if held else None
        chosen = choice.index if choice else 0
        if not math.isfinite(losses_S[chosen]):
            raise UserError(f"the probe diverged: its loss is {losses_S[chosen]}", fix="Lower it: --set probe.lr=[1e-4].")
        report = {"iterations": self.options.iterations, "loss": losses_S[chosen], **vars(grid[chosen])}
        return Fit(heads[chosen], report, choice)

    def _choose(self, context: FitContext, heads: list[LinearHead], held: list[int], losses_S: list[float]) -> Choice:
        classes = len(context.reader.classes)
        counts_S3C = np.zeros((len(heads), 3, classes), dtype=np.int64)
        with bar("choosing the head", len(held)) as advance:
            for prediction in Inference(context.extractor, context.inference).predict(context.reader, held, heads):
                for head, predicted_HW in enumerate(prediction.predicted_SHW):
                    counts_S3C[head] += count(predicted_HW, prediction.sample.labels_HW, classes, where=prediction.sample.id)
                advance()
        scores_S = np.where(np.isfinite(losses_S), summary(counts_S3C)["mIoU"], np.nan)
        grid = [vars(point) for point in self.options.grid]
        best = int(np.nanargmax(scores_S)) if np.isfinite(scores_S).any() else 0
        return Choice(grid, [None if math.isnan(score) else float(score) for score in scores_S], best, len(held))


class _Training:
    """The loop over iterations. It starts from the checkpoint in the work folder, if one of the same options is there."""

    def __init__(self, options: LinearOptions, context: FitContext, indices: list[int]) -> None:
        self.options, self.context = options, context
        self.extractor = context.extractor
        red, green, blue = (round(255 * value) for value in self.extractor.encoder.spec.mean)  # that is 0 after normalising
        self.crops = TrainCrops(context.reader, options.augment, indices=indices, seed=context.seed, fill=(red, green, blue))
        self.sweep = HeadSweep(
            len(options.grid),
            self.extractor.dim,
            len(context.reader.classes),
            batch_norm=options.batch_norm,
            dropout=options.dropout,
            seed=context.seed,
        ).to(self.extractor.encoder.device)
        self.optimiser = optimiser(self.sweep, options.grid, options.betas)
        self.losses_S = torch.zeros(len(options.grid))
        self.path = context.work / "linear.pt"
        self.identity = digest(options.model_dump_json(), context.seed, *(context.reader.ids[index] for index in indices))

    def run(self) -> list[float]:
        """Train to the last iteration; returns each head's last loss."""
        first = self._resume()
        batches = DataLoader(
            CropBatches(self.crops, self.options.batch_size),
            batch_size=None,
            sampler=range(first, self.options.iterations),
            num_workers=self.extractor.workers,
        )
        with bar("training the probe", self.options.iterations, "iterations") as advance:
            advance(first)
            for iteration, (pixels_B3HW, labels_BHW) in enumerate(batches, first):
                self._step(iteration, pixels_B3HW, labels_BHW)
                advance()
                if (iteration + 1) % self.options.checkpoint_every == 0 and iteration + 1 < self.options.iterations:
                    self._save(iteration + 1)
        return self.losses_S.tolist()

    def _step(self, iteration: int, pixels_B3HW: Tensor, labels_BHW: Tensor) -> None:
        options = self.options
        factor = lr_factor(options.schedule, iteration, options.iterations, options.warmup, options.warmup_ratio)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        found = self.extractor.encode(pixels_B3HW)
        features_BhwD = found.features_BhwD.clone()  # out of inference mode, which autograd may not read
        size = (pixels_B3HW.shape[-2], pixels_B3HW.shape[-1])
        windows = Windows(size, size, (0,), (0,))
        grid = (features_BhwD.shape[1], features_BhwD.shape[2])
        upsampling = Upsampling.of(grid, found.padding, windows, size, features_BhwD.device)
        logits_BSChw = self.sweep(features_BhwD, iteration)
        losses_S = upsampled_cross_entropy(logits_BSChw, labels_BHW.to(features_BhwD.device), upsampling)
        self.optimiser.zero_grad(set_to_none=True)
        losses_S.sum().backward()
        self.optimiser.step()
        self.losses_S = losses_S.detach().cpu()

    def _save(self, iteration: int) -> None:
        state = {"identity": self.identity, "iteration": iteration, "losses": self.losses_S}
        state |= {"sweep": self.sweep.state_dict(), "optimiser": self.optimiser.state_dict()}
        with atomic(self.path) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> int:
        if not self.path.is_file():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise UserError("not a checkpoint of a probe, or a broken one", where=self.path, fix="Delete it and run again.") from error
        if state["identity"] != self.identity:
            return 0
        self.sweep.load_state_dict(state["sweep"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.losses_S = state["losses"]
        return state["iteration"]
