"""A folder of new records against a baseline: what got worse, what got better, what cannot be told, and what is at fault.

A regression is a paired drop of the primary metric whose 95 % interval excludes zero and which is greater than the tolerance. A cell
that is missing, or whose data or protocol changed, is a fault: it must never look like a pass.

With a tolerance of zero, one cell in forty that did not change would be called a regression by chance (half of 5 %), and forty cells
alarm two times in three; the tolerance is what keeps that rare. q, the p-value adjusted for the number of cells, is reported beside.

A collapse is a score that holds while the effective rank of the features fell to less than half (probes/spread.py): a probe at its
optimum finds what collapsed patches still tell apart, where retrieval and zero-shot tasks do not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tips_bench.errors import UserError, unknown_name
from tips_bench.results.comparison import Comparison, Suite, compare_folders
from tips_bench.results.comparison import as_data as comparison_data

Status = Literal["regression", "fault", "collapse", "improvement", "within tolerance", "cannot tell", "new"]
# the order of a report, the worst first
STATUSES: tuple[Status, ...] = ("regression", "fault", "collapse", "cannot tell", "within tolerance", "improvement", "new")
FAILED: tuple[Status, ...] = ("regression", "fault", "collapse")
MAY_FAIL: tuple[Status, ...] = ("cannot tell", "new")  # where it is asked for
COLLAPSED = 0.5  # ours; of the baseline's effective rank
# Ours: the largest drop that still passes, by the unit of the primary metric; "" is the unit of ratios such as AbsRel. Other units: 0.
TOLERANCES = {"%": 0.2, "m": 0.005, "deg": 0.1, "": 0.002}


@dataclass(frozen=True)
class Outcome:
    """What became of one cell. message: a sentence. comparison: None for a fault and for a new cell."""

    cell: str
    status: Status
    message: str
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Report:
    """outcomes: the worst first. tolerances: unit of a primary metric -> the largest drop that still passes. failing: what fails."""

    outcomes: list[Outcome]
    tolerances: Mapping[str, float]
    failing: tuple[Status, ...] = FAILED

    @property
    def passed(self) -> bool:
        """Nothing that fails."""
        return not any(one.status in self.failing for one in self.outcomes)

    @property
    def counts(self) -> dict[str, int]:
        """Status -> number of cells, for those that occur."""
        found = Counter(one.status for one in self.outcomes)
        return {status: found[status] for status in STATUSES if found[status]}


def read_tolerances(said: str) -> dict[str, float]:
    """From "0.5", which holds for every unit and for ratios, or "%=0.5,m=0.01", where units that are not named keep their own.

    Errors: a unit that no metric has; no number, or one below zero.
    """
    found = dict(TOLERANCES)
    for part in said.split(","):
        unit, _, number = part.rpartition("=")
        if unit and unit not in TOLERANCES:
            raise UserError(f"there is no unit {unit!r}", where="--tolerance", fix=f"Known: {', '.join(filter(None, TOLERANCES))}.")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            fix = 'Give the largest drop that still passes, 0 or more. For example: "0.5" or "%=0.5,m=0.01".'
            raise UserError(f"{number!r} is not a tolerance", where="--tolerance", fix=fix)
        found |= {unit: value} if unit else dict.fromkeys(TOLERANCES, value)
    return found


def read_failing(said: str | None) -> tuple[Status, ...]:
    """What fails beside FAILED, from "cannot-tell,new". Errors: another word."""
    by_word = {status.replace(" ", "-"): status for status in MAY_FAIL}
    words = [part.strip() for part in (said or "").split(",") if part.strip()]
    for word in words:
        if word not in by_word:
            raise unknown_name("finding", word, by_word, where="--fail-on")
    return tuple(by_word[word] for word in words)


def check(new: str | Path, baseline: str | Path, tolerances: Mapping[str, float] = TOLERANCES, *, fail_on: Sequence[Status] = ()) -> Report:
    """Compare every cell of the baseline with its new record. tolerances: the largest drop that still passes, by its unit.

    fail_on: what fails beside a regression, a fault and a collapse, of MAY_FAIL.
    Errors: as `compare_folders`; a baseline with a broken record.
    """
    suite = compare_folders(baseline, new)
    units = {cell: one.a.record.primary_metric.unit for cell, one in suite.comparisons.items()}
    borne = {unit: tolerances.get(unit, 0.0) for unit in sorted(set(units.values()))}
    outcomes = [_judge(cell, one, borne[units[cell]]) for cell, one in suite.comparisons.items()] + _faults(suite, new)
    outcomes += [Outcome(cell, "new", f"{cell} has no baseline yet.") for cell in suite.only_b]
    return Report(sorted(outcomes, key=lambda one: (STATUSES.index(one.status), one.cell)), borne, (*FAILED, *fail_on))


def _faults(suite: Suite, new: str | Path) -> list[Outcome]:
    faults = [(cell, f"{cell} is not the same measurement as its baseline: {'; '.join(wrong)}.") for cell, wrong in suite.unlike.items()]
    faults += [(cell, f"{cell} is missing in {new}.") for cell in suite.only_a]
    faults += [(error.where or "a record", str(error)) for error in suite.broken]
    return [Outcome(cell, "fault", message) for cell, message in faults]


def _judge(cell: str, comparison: Comparison, tolerance: float) -> Outcome:
    record, gain, interval = comparison.a.record, comparison.gain, comparison.gain_interval
    unit = record.primary_metric.unit
    status: Status
    if interval is None:
        return Outcome(
            cell, "fault", f"{cell}: {record.primary} has no interval, for nothing was scored or there is one group.", comparison
        )
    low, high = interval
    if -tolerance <= low and high <= tolerance:
        status = "within tolerance"
    elif high < 0:
        status = "regression" if -gain > tolerance else "within tolerance"
    elif low > 0:
        status = "improvement" if gain > tolerance else "within tolerance"
    else:
        status = "cannot tell"
    digits = ".2f" if unit == "%" else ".3g"
    score = f"{record.primary} {comparison.primary.a:{digits}} -> {comparison.primary.b:{digits}} {unit}"
    message = f"{cell}: {score}; gain {gain:+{digits}} [{low:+{digits}}, {high:+{digits}}] at 95 %, tolerance {tolerance:g}."
    fallen = _fallen_rank(comparison)
    if fallen and status in ("within tolerance", "cannot tell"):
        status = "collapse"
    return Outcome(cell, status, f"{message} {fallen}".rstrip(), comparison)


def _fallen_rank(comparison: Comparison) -> str:
    """A sentence where features spread over far fewer directions than the baseline's; "" where they do not, or a record does not say."""
    before, now = comparison.a.record.spread, comparison.b.record.spread
    if before is None or now is None or now.effective_rank >= COLLAPSED * before.effective_rank:
        return ""
    return (
        f"The effective rank of its features fell from {before.effective_rank:.1f} to {now.effective_rank:.1f}, and "
        f"{now.common_share:.0%} of them is one vector that all share ({before.common_share:.0%} before): they may be collapsing, which "
        "this probe does not notice. Look at retrieval or zero-shot segmentation."
    )


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, full precision, for a machine."""
    return {
        "passed": report.passed,
        "tolerances": dict(report.tolerances),
        "counts": report.counts,
        "cells": [
            {
                "cell": one.cell,
                "status": one.status,
                "message": one.message,
                "comparison": None if one.comparison is None else _brief(comparison_data(one.comparison)),
            }
            for one in report.outcomes
        ],
    }


def _brief(comparison: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in comparison.items() if key not in ("classes", "samples", "verdict")}
