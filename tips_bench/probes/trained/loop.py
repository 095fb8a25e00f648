"""The one training loop of every probe that is trained: batches by number, checkpoints, and a restart that changes nothing.

Every batch is a function of its number, so a killed run goes on from its last checkpoint to the same heads. What is trained is a
Trainee; linear heads on patch features, many at once, are one: `SweepTrainee`.

Axes: B batch, H W pixels of a crop, D feature, S heads, C outputs.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tips_bench.cards import Strict
from tips_bench.data.split import Split
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.waiting import sent
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.files import atomic
from tips_bench.probes.trained.head_sweep import GridPoint, HeadSweep, optimizer
from tips_bench.probes.trained.schedules import Schedule, lr_factor, momentum_after_warmup, one_cycle_momentum
from tips_bench.progress import bar
from tips_bench.ranks import ALONE, World


class Trainee(Protocol):
    """What learns from one batch at a time."""

    def step(self, iteration: int, batch: Any) -> Tensor:
        """Learn from the batch of this number; returns the losses before it, losses_S, one a head, on the device."""

    def state(self) -> dict[str, Any]:
        """All that a restart needs: tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""


@dataclass(frozen=True)
class Training:
    """How a trainee is trained. batches: item i is batch number i. path: of the checkpoint. identity: of everything that shapes the heads.

    encoder: of which the trainee learns; the loop is a batch ahead of its device. workers: processes that make batches. world: the ranks
    that train it together, each on its part of a batch; all hold the trainee whole.
    """

    iterations: int
    checkpoint_every: int
    batches: Dataset
    path: Path
    identity: str
    encoder: Encoder
    workers: int
    world: World = ALONE

    def run(self, trainee: Trainee) -> list[float]:
        """Train to the last iteration, from the checkpoint if there is one of the same identity; returns each head's last loss."""
        first, losses = self._resume(trainee)
        with bar("training the probe", self.iterations, "iterations") as advance, self.encoder.checks.late():
            advance(first)
            for iteration, batch in enumerate(self._loaded(first), first):
                if isinstance(batch, UserError):
                    raise batch
                losses_S = trainee.step(iteration, batch)
                advance()
                last = iteration + 1 == self.iterations
                if last or (iteration + 1) % self.checkpoint_every == 0:
                    self.encoder.checks.settle()
                    losses = losses_S.tolist()
                    if not last:
                        self._save(trainee, iteration + 1, losses)
        return losses

    def _loaded(self, first: int) -> DataLoader:
        """The batches from number `first` on, in pinned memory where they are for a GPU."""
        pinned = self.encoder.device.type == "cuda"
        numbers = range(first, self.iterations)
        return DataLoader(_Carried(self.batches), batch_size=None, sampler=numbers, num_workers=self.workers, pin_memory=pinned)

    def _save(self, trainee: Trainee, iteration: int, losses: list[float]) -> None:
        if not self.world.is_first:
            return
        with atomic(self.path) as temporary:
            torch.save({"identity": self.identity, "iteration": iteration, "losses": losses, "trainee": trainee.state()}, temporary)

    def _resume(self, trainee: Trainee) -> tuple[int, list[float]]:
        """(the first iteration, the last losses)."""
        if not self.world.told(self.path.is_file):
            return 0, []
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            raise UserError("not a checkpoint of a probe, or a broken one", where=self.path, fix="Delete it and run again.") from error
        if saved.get("identity") != self.identity:
            return 0, []
        trainee.restore(saved["trainee"])
        return saved["iteration"], saved["losses"]


class _Carried(Dataset):
    """The batches, and in place of one that cannot be made its error: a loader would bury that in the traceback of a process."""

    def __init__(self, batches: Dataset) -> None:
        self.batches = batches

    def __getitem__(self, iteration: int) -> Any:
        try:
            return self.batches[iteration]
        except UserError as error:
            return error


class TrainingOptions(Strict):
    """The knobs of training linear heads. lr, weight_decay: their product is the grid. checkpoint_every: iterations between checkpoints.

    end: the rate at the end, as a factor on the base rate, of the schedules "one-cycle" and "cosine-throughout". lag: so many iterations
    at the start have the rate of the first one, and all others follow as late. momentum: [least, greatest] first beta of the one-cycle
    policy, instead of the first of `betas`; with the schedule "one-cycle" that of DINOv3, which begins after the warm-up. clip: greatest
    norm of a head's gradient. dropout_first: before BatchNorm, not after it.
    """

    type: str
    iterations: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: list[float] = Field(min_length=1)
    weight_decay: list[float] = Field(min_length=1)
    betas: tuple[float, float]
    momentum: tuple[float, float] | None = None
    clip: float | None = Field(None, gt=0)
    schedule: Schedule
    warmup: int = Field(ge=0)
    warmup_ratio: float = Field(ge=0, le=1)
    end: float = Field(0.0, ge=0, le=1)
    lag: int = Field(0, ge=0)
    batch_norm: bool
    dropout: float = Field(ge=0, lt=1)
    dropout_first: bool = False
    checkpoint_every: int = Field(gt=0)

    @property
    def grid(self) -> list[GridPoint]:
        """All pairs of learning rate and weight decay."""
        return [GridPoint(lr, weight_decay) for lr, weight_decay in product(self.lr, self.weight_decay)]


# (logits_BSChw, truth of the crops, padding around them, iteration) -> losses_S
SweepLoss = Callable[[Tensor, Tensor, tuple[int, int, int, int], int], Tensor]


class SweepTrainee:
    """Linear heads on the patch features of a frozen encoder. A batch is (pixels_B3HW, truth) with a truth of B maps of H W pixels.

    Every rank encodes its part of a batch and trains on all of it, so each holds the same heads, bit for bit, as one rank would.
    """

    def __init__(self, options: TrainingOptions, extractor: Extractor, sweep: HeadSweep, loss: SweepLoss) -> None:
        self.options, self.extractor, self.loss = options, extractor.fresh(), loss
        self.sweep = sweep.to(extractor.encoder.device)
        self.optimizer = optimizer(self.sweep, options.grid, options.betas)

    def step(self, iteration: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        """One step of every head; losses_S before it."""
        self._schedule(iteration)
        pixels_B3HW, truth = batch
        found = self.extractor.encode(pixels_B3HW)
        world = self.extractor.world
        features_BhwD = world.gather_rows(found.features_BhwD).clone()  # out of inference mode, which autograd may not read
        truth = world.gather_rows(sent(truth, features_BhwD.device))
        logits_BSChw = self.sweep(features_BhwD, iteration)
        losses_S = self.loss(logits_BSChw, truth, found.padding, iteration)
        self.optimizer.zero_grad(set_to_none=True)
        losses_S.sum().backward()
        if self.options.clip is not None:
            for head in range(losses_S.shape[0]):
                torch.nn.utils.clip_grad_norm_(self.sweep.parameters_of(head), self.options.clip)
        self.optimizer.step()
        return losses_S.detach()

    def _schedule(self, iteration: int) -> None:
        options, scheduled = self.options, max(0, iteration - self.options.lag)
        factor = lr_factor(options.schedule, scheduled, options.iterations, options.warmup, options.warmup_ratio, options.end)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
            if options.momentum is not None:
                group["betas"] = (self._momentum(scheduled, options.momentum), options.betas[1])

    def _momentum(self, iteration: int, between: tuple[float, float]) -> float:
        options = self.options
        if options.schedule == "one-cycle":
            return momentum_after_warmup(iteration, options.iterations, options.warmup, *between)
        return one_cycle_momentum(iteration, options.iterations, *between)

    def state(self) -> dict[str, Any]:
        """Heads, running statistics and the optimiser's moments."""
        return {"sweep": self.sweep.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.sweep.load_state_dict(state["sweep"])
        self.optimizer.load_state_dict(state["optimizer"])


def train_val_split(context: RunContext, train: Split, heads: int) -> tuple[list[int], list[int]]:
    """(fitted, held out) samples: all and none for one head, else the split less a held-out part on which a head is chosen."""
    return (train.indices, []) if heads == 1 else train.validation(context.selection)
