"""A network that learns values of every pixel from frozen features, as a trainee of the one training loop.

Axes: B batch, S side of a crop, T values of a pixel, D feature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tips_bench.cards import Strict
from tips_bench.data.crops.pixel_values import PixelValueCropCard
from tips_bench.encoders.waiting import sent
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Kind, Upsampling, Windows
from tips_bench.probes.trained.schedules import Schedule, lr_factor

NetworkBatch = tuple[Tensor, Tensor, Tensor]  # pixels_B3SS, values_BTSS, known_BSS


class NetworkOptions(Strict):
    """The knobs of the training. epochs, warmup_epochs: runs through the split. checkpoint_every: iterations between checkpoints."""

    epochs: float = Field(gt=0)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[float, float]
    schedule: Schedule
    warmup_epochs: float = Field(ge=0)
    warmup_ratio: float = Field(ge=0, le=1)
    augment: PixelValueCropCard
    checkpoint_every: int = Field(gt=0)

    def iterations(self, samples: int, epochs: float) -> int:
        """Batches in so many runs through the samples."""
        return round(epochs * samples / self.batch_size)


@dataclass(frozen=True)
class Objective:
    """forward: features_BhwD -> maps_BChw of any size. kind: how those are brought to the size of the crop.

    loss: (maps_BCSS, values_BTSS, known_BSS) -> a number.
    """

    forward: Callable[[Tensor], Tensor]
    kind: Kind
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]


class NetworkTrainee:
    """One network under AdamW; every rank encodes its part of a batch and trains on all of it. Errors: a loss that is not finite."""

    def __init__(self, options: NetworkOptions, extractor: Extractor, network: nn.Module, objective: Objective, samples: int) -> None:
        self.options, self.extractor, self.objective = options, extractor.fresh(), objective
        self.total = max(1, options.iterations(samples, options.epochs))
        self.warmup = options.iterations(samples, options.warmup_epochs)
        self.network = network.to(extractor.encoder.device)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay)

    def step(self, iteration: int, batch: NetworkBatch) -> Tensor:
        """One step; the loss before it."""
        options = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * lr_factor(options.schedule, iteration, self.total, self.warmup, options.warmup_ratio)
        pixels_B3SS, values_BTSS, known_BSS = batch
        found = self.extractor.encode(pixels_B3SS)
        world = self.extractor.world
        features_BhwD, values_BTSS, known_BSS = (world.gather_rows(part) for part in (found.features_BhwD, values_BTSS, known_BSS))
        maps_BChw = self.objective.forward(features_BhwD.clone())  # out of inference mode, which autograd may not read
        size, grid = (pixels_B3SS.shape[-2], pixels_B3SS.shape[-1]), (maps_BChw.shape[-2], maps_BChw.shape[-1])
        windows, device = Windows(size, size, (0,), (0,)), maps_BChw.device
        maps_BCSS = Upsampling.of(grid, found.padding, windows, size, device, self.objective.kind)(maps_BChw)
        loss = self.objective.loss(maps_BCSS, sent(values_BTSS, device), sent(known_BSS, device))
        self.extractor.encoder.checks.check(torch.isfinite(loss), lambda: _diverged(iteration, loss.item()))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()[None]

    def state(self) -> dict[str, Any]:
        """The network and the optimiser's moments."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def _diverged(iteration: int, loss: float) -> UserError:
    problem = f"the head diverged at iteration {iteration}: its loss is {loss}"
    return UserError(problem, fix="Lower the learning rate: --set probe.lr=1e-4.")
