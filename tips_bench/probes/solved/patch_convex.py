"""The probe `convex`: multinomial logistic regression on a bank of patches. No learning rate, no seed, one backbone pass.

The penalty is chosen on held-out images of the training split along a path from strong to weak, each solution starting from the
one before; the path ends once the held-out mIoU falls. The chosen penalty is then solved on all training patches to a tight
tolerance, in float64, so that nothing but the features decides the outcome.

Axes: N patches, D feature, C classes, K classes that the labels show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.metrics.segmentation import summary
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.linear_head import NEVER, LinearHead
from tips_bench.probes.solved.feature_spread import spread
from tips_bench.probes.solved.patch_bank import Bank, fill
from tips_bench.probes.solved.patches import CHUNK_ROWS, Patches
from tips_bench.probes.solved.softmax_regression import SoftmaxRegression, Solution

Score = Callable[[LinearHead, Bank, np.ndarray, torch.device], float]
FLOAT32_TOLERANCE = 4e-5  # what float32 reaches before its rounding stalls the line search


class SolverOptions(Strict):
    """The knobs of the solver.

    penalties: L2 path, from strong to weak. tolerance, selection_tolerance: greatest gradient entry in the solver's coordinates, for
    the final fit and along the path. resident_gb: patches are kept in memory up to this size.
    """

    type: str
    penalties: list[float] = Field(min_length=1)
    tolerance: float = Field(gt=0)
    selection_tolerance: float = Field(gt=0)
    max_iterations: int = Field(gt=0)
    resident_gb: float = Field(ge=0)

    @field_validator("penalties")
    @classmethod
    def _descending(cls, value: list[float]) -> list[float]:
        if min(value) <= 0 or sorted(set(value), reverse=True) != value:
            raise ValueError("penalties are positive and descend")
        return value


class ConvexOptions(SolverOptions):
    """The knobs of `convex`. max_patches: in the bank. patches_per_image: of one image, at most, for neighbours say much the same."""

    max_patches: int = Field(gt=0)
    patches_per_image: int = Field(gt=0)


class ConvexProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(LinearHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(ConvexOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Fill the bank, choose the penalty off the held-out part, solve on all of it."""
        return fit_bank(self.options, context, train, fill(context, train, self.options.max_patches, self.options.patches_per_image))


def fit_bank(options: SolverOptions, context: RunContext, train: Split, bank: Bank, score: Score | None = None) -> Fit:
    """Choose the penalty off the held-out part of a filled bank, solve on all of it, and let go of the bank.

    score: of a head on rows of the bank, higher is better; None = `patch_miou`.
    """
    reader = train.reader
    choice = None
    start: Solution | None = None
    if len(options.penalties) > 1:
        choice, start = _choose(options, context, train, bank, score or patch_miou)
    penalty = options.penalties[choice.index if choice else 0]
    regression = SoftmaxRegression(_patches(options, context, bank, bank.rows(train.indices)))
    _require_labels(regression, reader.name)
    same_classes = start is not None and len(start.bias_K) == len(regression.shown_K)
    begin = (start.weight_KD, start.bias_K) if start is not None and same_classes else None
    # float32 is four times as fast; float64 goes the rest of the way, or shows that there is none left
    near = regression.solve(penalty, max(options.tolerance, FLOAT32_TOLERANCE), options.max_iterations, begin)
    solution = regression.solve(penalty, options.tolerance, options.max_iterations, (near.weight_KD, near.bias_K), torch.float64)
    report = {
        "penalty": penalty,
        "loss": solution.loss,
        "gradient": solution.gradient,
        "iterations": near.iterations + solution.iterations,
        "converged": solution.converged,
        "patches": int(bank.store.starts[-1]),
        **spread(regression.moments.mean_D, regression.moments.covariance_DD),
        "classes_without_labels": [name for k, name in enumerate(reader.classes) if k not in set(regression.shown_K.tolist())],
    }
    unfinished = f"the probe stopped after {solution.iterations} iterations at a gradient of {solution.gradient:.1e}"
    warnings = [] if solution.converged else [unfinished]
    context.scratch.finish(bank.store)
    return Fit(_head(regression, solution, len(reader.classes)), report, choice, warnings)


def _patches(options: SolverOptions, context: RunContext, bank: Bank, rows: np.ndarray) -> Patches:
    return Patches(bank.arrays, rows, context.encoder.device, int(options.resident_gb * 1e9), context.extractor.world)


def _choose(options: SolverOptions, context: RunContext, train: Split, bank: Bank, score_of: Score) -> tuple[Choice, Solution]:
    kept, held = train.validation(context.selection)
    regression = SoftmaxRegression(_patches(options, context, bank, bank.rows(kept)))
    _require_labels(regression, train.reader.name)
    held_rows = bank.rows(held)
    solution: Solution | None = None
    found: list[tuple[float, int, Solution]] = []
    scores: list[float | None] = [None] * len(options.penalties)
    for index, penalty in enumerate(options.penalties):
        begin = (solution.weight_KD, solution.bias_K) if solution else None
        solution = regression.solve(penalty, options.selection_tolerance, options.max_iterations, begin)
        head = _head(regression, solution, len(train.reader.classes))
        score = scores[index] = score_of(head, bank, held_rows, context.encoder.device)
        if found and score < found[-1][0]:
            break
        if not found or score > found[-1][0]:
            found.append((score, index, solution))
    _, chosen, best = found[-1]
    grid = [{"penalty": penalty} for penalty in options.penalties]
    return Choice(grid, scores, chosen, len(held)), best


def _require_labels(regression: SoftmaxRegression, name: str) -> None:
    if len(regression.shown_K) < 2:
        raise UserError(
            f"the training patches show {len(regression.shown_K)} class(es)",
            where=name,
            fix="A probe needs at least two classes: use more training images.",
        )


def _head(regression: SoftmaxRegression, solution: Solution, classes: int) -> LinearHead:
    weight_CD = torch.zeros(classes, regression.patches.dim)
    bias_C = torch.full((classes,), NEVER)
    shown_K = regression.shown_K.cpu()
    weight_CD[shown_K] = solution.weight_KD.float().cpu()
    bias_C[shown_K] = solution.bias_K.float().cpu()
    return LinearHead(weight_CD, bias_C)


def patch_miou(head: LinearHead, bank: Bank, rows: np.ndarray, device: torch.device) -> float:
    """mIoU in percent of the bank's patches, each pixel of a patch predicted as the patch is."""
    classes = len(head.bias_C)
    counts_3C = np.zeros((3, classes), dtype=np.int64)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        features_ND = from_disk(bank.arrays["features"][part]).to(device)
        predicted_N = head(features_ND[:, None, None])[:, :, 0, 0].argmax(1).cpu().numpy()
        counts_NC = bank.arrays["counts"][part].astype(np.int64)
        np.add.at(counts_3C[0], predicted_N, counts_NC[np.arange(len(part)), predicted_N])
        np.add.at(counts_3C[1], predicted_N, counts_NC.sum(1))
        counts_3C[2] += counts_NC.sum(0)
    return float(summary(counts_3C)["mIoU"])
