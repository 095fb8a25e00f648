"""The probe `whole-linear`: DINOv2's linear evaluation, all its heads in one pass over the training crops.

Random resized crops, SGD with momentum, a cosine to 0; a head for each learning rate, number of last blocks and use of the mean of the
patches (dinov2/eval/linear.py). There the best head on the scored split is reported; here it is chosen on a held-out part of the training
split, and theirs is reported under its own name. Every batch is a function of (seed, iteration), so that a killed run goes on from its
last checkpoint to the same heads.

Axes: B batch, H W pixels of a crop, F features of an image, S heads.
"""

from __future__ import annotations

import pickle
import zipfile
from itertools import product
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tips_bench.cards import Strict, parse
from tips_bench.data.holdout import hold_out
from tips_bench.data.resized_crops import ResizedCropCard, ResizedCrops
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.whole import Whole, encode_whole
from tips_bench.files import atomic, digest
from tips_bench.probes.base import Choice, Fit, FitContext
from tips_bench.probes.schedule import lr_factor
from tips_bench.probes.whole import AffineHeads, best_of, rank_all
from tips_bench.probes.whole_sweep import Inputs, WholeSweep
from tips_bench.progress import bar

LR_BATCH = 256  # images for which a learning rate is stated; the rate grows with the batch (dinov2/eval/linear.py, scale_lr)


class WholeLinearOptions(Strict):
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


class _Batches(Dataset):
    """Batch number i: (pixels_B3HW uint8, labels_B)."""

    def __init__(self, crops: ResizedCrops, batch_size: int) -> None:
        self.crops, self.batch_size = crops, batch_size

    def __getitem__(self, iteration: int) -> tuple[Tensor, Tensor]:
        numbers = range(iteration * self.batch_size, (iteration + 1) * self.batch_size)
        pixels, labels = zip(*(self.crops.crop(number) for number in numbers), strict=True)
        return torch.stack(pixels), torch.tensor(labels)


class WholeLinearProbe:
    """Built from a card's `probe` mapping."""

    load = staticmethod(AffineHeads.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(WholeLinearOptions, options, where=where, prefix="probe.")

    def whole(self, extractor: Extractor) -> Whole:
        """What of an image is looked at. Errors: more blocks than the protocol takes layers."""
        if max(self.options.blocks) > len(extractor.layers) or min(self.options.blocks) < 1:
            problem = f"probe.blocks = {self.options.blocks}: the protocol takes {len(extractor.layers)} layers"
            raise UserError(problem, fix="Let features.layers name as many.")
        return Whole.tokens(extractor, mean=True)

    def fit(self, context: FitContext) -> Fit:
        """Train all heads on the training split, less a held-out part where there are several, and choose one on that part."""
        options, reader = self.options, context.reader
        whole = self.whole(context.extractor)
        kept, held = context.indices, []
        if len(options.grid) > 1:
            ids, groups = ([names[index] for index in context.indices] for names in (reader.ids, reader.groups))
            parts = hold_out(ids, groups, context.selection.fraction, context.selection.max_images)
            kept, held = ([context.indices[place] for place in part] for part in parts)
        training = _Training(options, context, whole, kept)
        losses_S = training.run()
        heads, choice = AffineHeads(training.sweep.heads(), None).on(context.extractor.encoder.device), None
        if held:
            store = encode_whole(context.extractor, reader, held, whole, context.shelf, "held-out-whole")
            scores, best = best_of(rank_all(heads, store.arrays["features"], reader.labels_N[held]))
            context.shelf.finish(store)
            choice = Choice(options.grid, scores, best, len(held))
            heads.choice = best
        chosen = heads.choice or 0
        if not np.isfinite(losses_S[chosen]):
            raise UserError(f"the probe diverged: its loss is {losses_S[chosen]}", fix="Lower it: --set probe.lr=[1e-3].")
        return Fit(heads, {"iterations": options.iterations, "loss": losses_S[chosen], **options.grid[chosen]}, choice)


class _Training:
    """The loop over iterations. It starts from the checkpoint in the work folder, if one of the same options is there."""

    def __init__(self, options: WholeLinearOptions, context: FitContext, whole: Whole, indices: list[int]) -> None:
        self.options, self.extractor, self.whole = options, context.extractor, whole
        self.crops = ResizedCrops(context.reader, options.crops, indices, context.seed)
        layers, dim = len(self.extractor.layers), self.extractor.encoder.spec.embed_dim
        self.sweep = WholeSweep(
            [inputs.columns(dim, layers) for inputs in options.inputs],
            [lr * options.batch_size / LR_BATCH for lr in options.lr],
            len(context.reader.classes),
            momentum=options.momentum,
            seed=context.seed,
            device=self.extractor.encoder.device,
        )
        self.losses_S = torch.full((len(options.grid),), torch.nan)
        self.path = context.work / "whole-linear.pt"
        self.identity = digest(options.model_dump_json(), context.seed, *(context.reader.ids[index] for index in indices))

    def run(self) -> list[float]:
        """Train to the last iteration; returns each head's last loss."""
        options, first = self.options, self._resume()
        batches = DataLoader(
            _Batches(self.crops, options.batch_size),
            batch_size=None,
            sampler=range(first, options.iterations),
            num_workers=self.extractor.workers,
        )
        with bar("training the probe", options.iterations, "iterations") as advance:
            advance(first)
            for iteration, (pixels_B3HW, labels_B) in enumerate(batches, first):
                features_BF = torch.cat([self.whole.encode(part.float() / 255) for part in pixels_B3HW.split(self.extractor.batch_size)])
                factor = lr_factor("cosine", iteration, options.iterations, 0, 1.0)
                self.losses_S = self.sweep.step(features_BF.float(), labels_B.to(features_BF.device), factor)
                advance()
                if (iteration + 1) % options.checkpoint_every == 0 and iteration + 1 < options.iterations:
                    self._save(iteration + 1)
        return self.losses_S.tolist()

    def _save(self, iteration: int) -> None:
        state = {"identity": self.identity, "iteration": iteration, "losses": self.losses_S, **self.sweep.state()}
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
        self.sweep.restore(state)
        self.losses_S = state["losses"]
        return state["iteration"]
