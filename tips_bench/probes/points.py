"""Probes on the points of scans, whose features are lifted from frames.

`convex-points` is the probe `convex` with points in place of patches. `linear-points` trains one linear map as Lexicon3D does: all
points of a scan are a batch, Adam, a fixed number of epochs. Both fit on a bank of the training scans' points that are labelled and
that a frame sees; it is filled once, so every frame passes through the backbone once.

Axes: N points of a scan, R rows of the bank, D feature, C classes.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import Strict, parse
from tips_bench.errors import UserError
from tips_bench.features.lifted import lifted_scans
from tips_bench.features.lifting import LiftingOptions
from tips_bench.features.store import DISK_TYPES, from_disk, to_disk
from tips_bench.files import atomic, digest
from tips_bench.probes.bank import Bank, choose
from tips_bench.probes.base import Fit, FitContext
from tips_bench.probes.convex import SolverOptions, fit_bank
from tips_bench.probes.head import LinearHead
from tips_bench.progress import bar

CHUNK_ROWS = 1 << 14


class ConvexPointsOptions(SolverOptions):
    """The knobs of `convex-points`. max_points: in the bank. points_per_scan: of one scan, at most."""

    max_points: int = Field(gt=0)
    points_per_scan: int = Field(gt=0)
    lifting: LiftingOptions


class ConvexPointsProbe:
    """Built from a card's `probe` mapping."""

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(ConvexPointsOptions, options, where=where, prefix="probe.")

    def fit(self, context: FitContext) -> Fit:
        """Fill the bank, choose the penalty off the held-out scans, solve on all of it."""
        options = self.options
        quota = min(options.points_per_scan, options.max_points // len(context.indices))
        if not quota:
            problem = f"max_points = {options.max_points}: fewer than the {len(context.indices)} training scans"
            raise UserError(problem, fix="Give at least one point a scan.")
        return fit_bank(options, context, fill_points(context, options.lifting, quota))


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

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(LinearPointsOptions, options, where=where, prefix="probe.")

    def fit(self, context: FitContext) -> Fit:
        """Fill the bank, train on it. Errors: a loss that is not finite."""
        bank = fill_points(context, self.options.lifting, self.options.points_per_scan)
        training = _Training(self.options, context, bank)
        loss = training.run()
        if not math.isfinite(loss):
            raise UserError(f"the probe diverged: its loss is {loss}", fix="Lower it: --set probe.lr=1e-5.")
        report = {"epochs": self.options.epochs, "steps": training.steps, "loss": loss, "points": int(bank.store.starts[-1])}
        context.shelf.finish(bank.store)
        return Fit(LinearHead(training.weight_CD.detach().cpu(), training.bias_C.detach().cpu()), report)


def fill_points(context: FitContext, lifting: LiftingOptions, quota: int) -> Bank:
    """Lift the scans that are not in the bank yet; at most `quota` points of each, those that are labelled and seen first."""
    extractor, reader, indices = context.extractor, context.reader, context.indices
    classes = len(reader.classes)
    rows = [min(quota, reader.points(index)) for index in indices]
    arrays: dict[str, tuple[tuple[int, ...], str]] = {
        "features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype]),
        "counts": ((classes,), "uint8"),
        "area": ((), "uint8"),
    }
    chosen = digest(*(reader.ids[index] for index in indices))
    store = context.shelf.open("points", rows, arrays, chosen, quota, lifting.model_dump_json())
    item = {index: position for position, index in enumerate(indices)}
    missing = store.missing()
    with bar("features of the training split", len(indices), "scans") as advance:
        advance(len(indices) - len(missing))
        for found in lifted_scans(reader, [indices[position] for position in missing], extractor, lifting):
            labels_N, position = found.scan.labels_N, item[found.index]
            usable_N = (labels_N < classes) & (found.number_N > 0).cpu().numpy()
            picked = choose(found.scan.id, usable_N, rows[position])
            counts_RC = np.zeros((len(picked), classes), np.uint8)
            used_R = usable_N[picked]
            counts_RC[used_R, labels_N[picked[used_R]]] = 1
            features_RD = found.features_ND[torch.from_numpy(picked).to(found.features_ND.device)]
            store.write(position, features=to_disk(features_RD), counts=counts_RC, area=np.ones(len(picked), np.uint8))
            advance()
    return Bank(store, indices)


class _Training:
    """The loop over epochs and scans. It starts from the checkpoint in the work folder, if one of the same options is there.

    The order of an epoch's scans is a function of (seed, epoch). steps: of the optimiser, so far.
    """

    def __init__(self, options: LinearPointsOptions, context: FitContext, bank: Bank) -> None:
        self.options, self.context, self.bank = options, context, bank
        self.device = context.extractor.encoder.device
        generator, dim = torch.Generator().manual_seed(context.seed), context.extractor.dim
        # torch.nn.Linear's own initial values, which Lexicon3D takes
        shapes = (len(context.reader.classes), dim), (len(context.reader.classes),)
        weight_CD, bias_C = ((2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(dim) for shape in shapes)
        self.weight_CD, self.bias_C = (values.to(self.device).requires_grad_() for values in (weight_CD, bias_C))
        decay = {"lr": options.lr, "betas": options.betas, "weight_decay": options.weight_decay}
        self.optimiser = torch.optim.Adam([self.weight_CD, self.bias_C], **decay)
        self.loss, self.steps = math.nan, 0
        self.path: Path = context.work / "points.pt"
        self.identity = digest(options.model_dump_json(), context.seed, *(context.reader.ids[index] for index in context.indices))

    def run(self) -> float:
        """Train to the last epoch; returns the mean loss of the last scan."""
        scans = len(self.bank.indices)
        total, first = self.options.epochs * scans, self._resume()
        with bar("training the probe", total, "scans") as advance:
            advance(first)
            for number in range(first, total):
                epoch, place = divmod(number, scans)
                order = np.random.default_rng([self.context.seed, epoch]).permutation(scans)
                self._step(int(order[place]))
                advance()
                if (number + 1) % self.options.checkpoint_every == 0 and number + 1 < total:
                    self._save(number + 1)
        return self.loss

    def _step(self, item: int) -> None:
        """One scan is one batch: the mean loss over its points, a piece at a time. A scan without a usable point makes no step."""
        store = self.bank.store
        rows = np.arange(store.starts[item], store.starts[item + 1])
        rows = rows[store.arrays["counts"][rows].any(1)]
        if not len(rows):
            return
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, len(rows), CHUNK_ROWS):
            part = rows[start : start + CHUNK_ROWS]
            features_RD = from_disk(store.arrays["features"][part]).to(self.device, torch.float32)
            labels_R = torch.from_numpy(store.arrays["counts"][part].argmax(1)).to(self.device)
            loss = self._loss(features_RD, labels_R) / len(rows)
            loss.backward()
            total += float(loss.detach())
        self.optimiser.step()
        self.loss, self.steps = total, self.steps + 1

    def _loss(self, features_RD: Tensor, labels_R: Tensor) -> Tensor:
        logits_RC = F.linear(features_RD, self.weight_CD, self.bias_C)
        if self.options.softmax_twice:
            logits_RC = logits_RC.softmax(1)
        return F.cross_entropy(logits_RC, labels_R, reduction="sum")

    def _save(self, number: int) -> None:
        state = {"identity": self.identity, "number": number, "steps": self.steps, "loss": self.loss}
        state |= {"weight": self.weight_CD, "bias": self.bias_C, "optimiser": self.optimiser.state_dict()}
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
        with torch.no_grad():
            self.weight_CD.copy_(state["weight"])
            self.bias_C.copy_(state["bias"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.loss, self.steps = state["loss"], state["steps"]
        return state["number"]
