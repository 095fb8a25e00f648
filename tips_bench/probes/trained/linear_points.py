"""The probe `linear-points`: one linear map on points, trained as Lexicon3D does it.

All points of a scan are a batch, Adam, a fixed number of epochs, on a bank of the training scans' points that are labelled and that a
frame sees; it is filled once, so every frame passes through the backbone once.

Axes: N points of a scan, R rows of the bank, D feature, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.encoders.waiting import sent
from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.features.lifting import LiftingOptions
from tips_bench.files import digest
from tips_bench.probes.base import Fit
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.solved.patch_bank import Bank
from tips_bench.probes.solved.point_bank import fill_points
from tips_bench.probes.trained.loop import Training

CHUNK_ROWS = 1 << 14


class LinearPointsOptions(Strict):
    """The knobs of `linear-points`.

    points_per_scan: at most so many of a training scan, drawn once. softmax_twice: the softmax is applied before the cross-entropy,
    which applies it again. checkpoint_every: scans between checkpoints.
    """

    type: str
    points_per_scan: int = Field(gt=0)
    epochs: int = Field(gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[float, float]
    softmax_twice: bool
    checkpoint_every: int = Field(gt=0)
    lifting: LiftingOptions


class LinearPointsProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(LinearHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(LinearPointsOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Fill the bank, train on it. Errors: a loss that is not finite."""
        options = self.options
        bank = fill_points(context, train, options.lifting, options.points_per_scan)
        trainee = PointTrainee(options, context, bank, len(train.reader.classes))
        scans = len(train)
        identity = digest(options.model_dump_json(), context.seed, *train.ids)
        order = ScanOrder(scans, context.seed)
        path, world = context.folder / "points.pt", context.extractor.world
        training = Training(
            options.epochs * scans, options.checkpoint_every, order, path, identity, context.encoder, workers=0, world=world
        )
        (loss,) = training.run(trainee)
        if not math.isfinite(loss):
            raise UserError(f"the probe diverged: its loss is {loss}", fix="Lower the learning rate: --set probe.lr=1e-5.")
        report = {"epochs": options.epochs, "steps": trainee.steps, "loss": loss, "points": int(bank.store.starts[-1])}
        context.scratch.finish(bank.store)
        return Fit(LinearHead(trainee.weight_CD.detach().cpu(), trainee.bias_C.detach().cpu()), report)


class ScanOrder(Dataset):
    """Batch number i is all of one scan: its place in the bank, a function of (seed, epoch)."""

    def __init__(self, scans: int, seed: int) -> None:
        self.scans, self.seed = scans, seed

    def __getitem__(self, number: int) -> int:
        epoch, place = divmod(number, self.scans)
        return int(np.random.default_rng([self.seed, epoch]).permutation(self.scans)[place])


class PointTrainee:
    """One linear map, and Adam. steps: of the optimiser, so far; a scan without a usable point makes none."""

    def __init__(self, options: LinearPointsOptions, context: RunContext, bank: Bank, classes: int) -> None:
        self.options, self.bank, self.device = options, bank, context.encoder.device
        generator, dim = torch.Generator().manual_seed(context.seed), context.extractor.dim
        # torch.nn.Linear's own initial values, which Lexicon3D takes
        shapes = (classes, dim), (classes,)
        weight_CD, bias_C = ((2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(dim) for shape in shapes)
        self.weight_CD, self.bias_C = (values.to(self.device).requires_grad_() for values in (weight_CD, bias_C))
        decay: dict[str, Any] = {"lr": options.lr, "betas": options.betas, "weight_decay": options.weight_decay}
        self.optimizer = torch.optim.Adam([self.weight_CD, self.bias_C], **decay)
        self.steps, self.loss = 0, torch.tensor(math.nan, dtype=torch.float64)

    def step(self, iteration: int, batch: int) -> Tensor:
        """The mean loss over a scan's points, a piece of them at a time."""
        store = self.bank.store
        rows = np.arange(store.starts[batch], store.starts[batch + 1])
        rows = rows[store.arrays["counts"][rows].any(1)]
        if len(rows):
            self.optimizer.zero_grad(set_to_none=True)
            pieces = (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))
            self.loss = sum((self._backward(piece, len(rows)) for piece in pieces), start=torch.zeros_like(self.loss, device=self.device))
            self.optimizer.step()
            self.steps += 1
        return self.loss[None]

    def _backward(self, rows: np.ndarray, total: int) -> Tensor:
        store = self.bank.store
        features_RD = sent(from_disk(store.arrays["features"][rows]), self.device, torch.float32)
        labels_R = sent(torch.from_numpy(store.arrays["counts"][rows].argmax(1)), self.device)
        logits_RC = F.linear(features_RD, self.weight_CD, self.bias_C)
        if self.options.softmax_twice:
            logits_RC = logits_RC.softmax(1)
        loss = F.cross_entropy(logits_RC, labels_R, reduction="sum") / total
        loss.backward()
        return loss.detach().double()

    def state(self) -> dict[str, Any]:
        """The map and the optimiser's moments."""
        values = {"weight": self.weight_CD.detach(), "bias": self.bias_C.detach(), "steps": self.steps, "loss": float(self.loss)}
        return values | {"optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        with torch.no_grad():
            self.weight_CD.copy_(state["weight"])
            self.bias_C.copy_(state["bias"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.loss = state["steps"], torch.tensor(state["loss"], dtype=torch.float64)
