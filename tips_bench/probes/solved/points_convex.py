"""The probe `convex-points`: the probe `convex` with points of scans in place of patches, their features lifted from frames."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tips_bench.cards import parse
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.lifting import LiftingOptions
from tips_bench.probes.base import Fit
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.solved.patch_convex import SolverOptions, fit_bank
from tips_bench.probes.solved.point_bank import fill_points


class ConvexPointsOptions(SolverOptions):
    """The knobs of `convex-points`. max_points: in the bank. points_per_scan: of one scan, at most."""

    max_points: int = Field(gt=0)
    points_per_scan: int = Field(gt=0)
    lifting: LiftingOptions


class ConvexPointsProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(LinearHead.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(ConvexPointsOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Fill the bank, choose the penalty off the held-out scans, solve on all of it."""
        options = self.options
        quota = min(options.points_per_scan, options.max_points // len(train))
        if not quota:
            problem = f"max_points = {options.max_points}: fewer than the {len(train)} training scans"
            raise UserError(problem, fix="Allow at least one point per scan.")
        return fit_bank(options, context, train, fill_points(context, train, options.lifting, quota))
