"""The probe `ridge`: linear least squares with an L2 penalty from streamed moments. No learning rate, no seed, one backbone pass.

    minimise  sum_p w_p |W x_p + b - y_p|^2 / sum_p w_p + penalty |W|^2

x: features standardised by their weighted mean and deviation; y_p: mean of the patch's known pixels; w_p: their share of its area. The
bias is not penalised. Everything follows from moments (moments.py): one eigendecomposition of the features' covariance gives the
solution for every penalty (Hoerl & Kennard, Technometrics 1970, in the basis in which it is diagonal), and the held-out images'
moments give its error there without the images. scikit-learn's Ridge has the same solution with alpha = penalty * sum w.

The penalty is chosen by the held-out error; the chosen one is then solved on all training images.

Axes: D feature, T values of a pixel, L penalties of the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.files import digest
from tips_bench.probes.base import Choice, Fit
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.pixel_targets import PixelTarget
from tips_bench.probes.solved.feature_spread import spread
from tips_bench.probes.solved.sufficient_statistics import Moments, Progress, patch_targets
from tips_bench.progress import Advance, bar
from tips_bench.ranks import LANES


class RidgeOptions(Strict):
    """The knobs of `ridge`. penalties: L2 path, from strong to weak. checkpoint_every: images between writes of the moments."""

    type: str
    penalties: list[float] = Field(min_length=1)
    checkpoint_every: int = Field(gt=0)

    @field_validator("penalties")
    @classmethod
    def _descending(cls, value: list[float]) -> list[float]:
        if min(value) <= 0 or sorted(set(value), reverse=True) != value:
            raise ValueError("penalties are positive and descend")
        return value


@dataclass(frozen=True)
class RidgePath:
    """The solutions for every penalty.

    mean_D, mean_T, deviation_D: of features and targets. basis_DD, eigenvalues_D: of the features' correlation. rotated_DT:
    covariance of standardised features and targets in that basis.
    """

    mean_D: Tensor
    mean_T: Tensor
    deviation_D: Tensor
    eigenvalues_D: Tensor
    basis_DD: Tensor
    rotated_DT: Tensor

    @classmethod
    def of(cls, moments: Moments) -> RidgePath:
        """From sums over patches. A feature that does not vary gets deviation 1, and so weight 0."""
        mean_D, covariance_DD = moments.features()
        mean_T = moments.y_T / moments.weight
        variance_D = covariance_DD.diagonal().clamp_min(0)
        # What rounding leaves of a constant: sums of squares in float64 are right to about 1e-14 of themselves.
        constant_D = variance_D <= 1e-12 * (mean_D.square() + variance_D.max())
        deviation_D = torch.where(constant_D, 1.0, variance_D.sqrt())
        varies_D = (~constant_D).to(variance_D.dtype)
        correlation_DD = covariance_DD / torch.outer(deviation_D, deviation_D) * torch.outer(varies_D, varies_D)
        eigenvalues_D, basis_DD = torch.linalg.eigh(correlation_DD)
        shared_DT = (moments.xy_DT / moments.weight - torch.outer(mean_D, mean_T)) / deviation_D[:, None] * varies_D[:, None]
        return cls(mean_D, mean_T, deviation_D, eigenvalues_D.clamp_min(0), basis_DD, basis_DD.T @ shared_DT)

    def solve(self, penalty: float) -> tuple[Tensor, Tensor]:
        """(weight_TD, bias_T) in float64, for raw features."""
        standard_DT = self.basis_DD @ (self.rotated_DT / (self.eigenvalues_D + penalty)[:, None])
        weight_TD = (standard_DT / self.deviation_D[:, None]).T
        return weight_TD, self.mean_T - weight_TD @ self.mean_D


def error(moments: Moments, weight_TD: Tensor, bias_T: Tensor) -> float:
    """Root of the mean squared length of (prediction - target) over the pixels behind the moments, each predicted as its patch is."""
    spread = ((weight_TD @ moments.xx_DD) * weight_TD).sum(1) + 2 * bias_T * (weight_TD @ moments.x_D) + bias_T.square() * moments.weight
    shared = (weight_TD * moments.xy_DT.T).sum(1) + bias_T * moments.y_T
    return max(float((spread - 2 * shared + moments.yy_T).sum() / moments.weight), 0.0) ** 0.5


class RidgeProbe:
    """Built from a card's `probe` mapping, for a target."""

    reads_train = True
    load = staticmethod(LinearHead.load)

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget) -> None:
        self.options = parse(RidgeOptions, options, where=where, prefix="probe.")
        self.target = target

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Sum the moments, choose the penalty off the held-out part, solve on all of it."""
        penalties = self.options.penalties
        group_of = dict.fromkeys(train.indices, 0)
        held: list[int] = []
        if len(penalties) > 1:
            kept, held = train.validation(context.selection)
            group_of = dict.fromkeys(train.indices, 2)  # of a held-out group, but beyond the limit
            group_of |= dict.fromkeys(kept, 0) | dict.fromkeys(held, 1)
        groups = self._moments(context, train, group_of)
        whole = groups[0]
        for other in groups[1:]:
            whole = whole + other
        if not whole.weight:
            raise UserError("no training patch has a known value", where=train.reader.name, fix="Check the split: `tips-bench data check`.")
        choice = self._choose(groups[0], groups[1], len(held)) if held else None
        penalty = penalties[choice.index if choice else 0]
        weight_TD, bias_T = RidgePath.of(whole).solve(penalty)
        fitted = {"penalty": penalty, "loss": error(whole, weight_TD, bias_T), "unit": self.target.unit}
        report = {**fitted, "patches": whole.weight, **spread(*whole.features())}
        return Fit(LinearHead(weight_TD.float().cpu(), bias_T.float().cpu()), report, choice)

    def _choose(self, kept: Moments, held: Moments, images: int) -> Choice:
        for moments, what in ((kept, "the fitted"), (held, "the held-out")):
            if not moments.weight:
                raise UserError(f"no patch of {what} training images has a known value", fix="Give more images or groups.")
        path = RidgePath.of(kept)
        scores = [error(held, *path.solve(penalty)) for penalty in self.options.penalties]
        grid = [{"penalty": penalty} for penalty in self.options.penalties]
        return Choice(grid, list(scores), min(range(len(scores)), key=scores.__getitem__), images, "RMSE of patches")

    def _moments(self, context: RunContext, train: Split, group_of: dict[int, int]) -> list[Moments]:
        """Moments of each group of images, taken up from the scratch folder; each rank makes those of its lanes."""
        extractor, reader = context.extractor, train.reader
        # The order in which batches of one size are formed, whatever their size and wherever a run begins again.
        order = sorted(train.indices, key=lambda index: extractor.inner_size(*reader.size(index)))
        lanes = [order[first::LANES] for first in range(min(LANES, len(order)))]
        with bar("moments of the training split", len(order)) as advance:
            for lane in extractor.world.share(lanes):
                self._fill(context, train, group_of, lane, advance)
        extractor.world.barrier()
        whole: list[Moments] = []
        for lane in lanes:
            groups = self._progress(context, train, group_of, lane).groups
            whole = [before + more for before, more in zip(whole, groups, strict=True)] if whole else groups
        extractor.world.barrier()  # none deletes the files while another still reads them
        return whole

    def _fill(self, context: RunContext, train: Split, group_of: dict[int, int], lane: list[int], advance: Advance) -> None:
        """Add the images of one lane that are not in its file yet, in their order."""
        extractor, progress = context.extractor.alone(), self._progress(context, train, group_of, lane)
        advance(progress.done)
        for batch, samples, pixels_B3HW in extractor.batches(train.reader, lane[progress.done :]):
            found, inner = extractor.encode(pixels_B3HW), (pixels_B3HW.shape[-2], pixels_B3HW.shape[-1])
            for index, sample, features_hwD in zip(batch, samples, found.features_BhwD, strict=True):
                truth = self.target.truth(sample)
                targets = patch_targets(*truth, (features_hwD.shape[0], features_hwD.shape[1]), inner, found.padding)
                progress.groups[group_of[index]].add(features_hwD.flatten(0, 1), targets)
                progress.done += 1
                if progress.done % self.options.checkpoint_every == 0:
                    progress.save()
            advance(len(batch))
        progress.save()

    def _progress(self, context: RunContext, train: Split, group_of: dict[int, int], lane: list[int]) -> Progress:
        """What the file of a lane holds."""
        extractor, values = context.extractor, self.target.values

        def start() -> list[Moments]:
            return [Moments.zero(extractor.dim, values, extractor.encoder.device) for _ in range(1 + max(group_of.values()))]

        identity = digest(self.target, *(f"{train.reader.ids[index]} {group_of[index]}" for index in lane))
        return Progress.resume(context.folder / f"moments-{identity[:24]}.npz", identity, start)
