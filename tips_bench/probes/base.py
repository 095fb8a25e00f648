"""What a probe is: options read from a protocol card, and a fit on a training split that ends in a linear head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tips_bench.cards import SelectionCard, WindowCard
from tips_bench.data.base import SegmentationReader
from tips_bench.features.extract import Extractor
from tips_bench.features.store import Shelf
from tips_bench.probes.head import LinearHead


@dataclass(frozen=True)
class FitContext:
    """What every probe fits on. indices: the samples of the reader's split that may be used. work: folder for what a killed run takes up.

    shelf: where stores of features lie.
    """

    extractor: Extractor
    reader: SegmentationReader
    indices: list[int]
    inference: WindowCard
    selection: SelectionCard
    work: Path
    shelf: Shelf
    seed: int


@dataclass(frozen=True)
class Choice:
    """How hyper-parameters were chosen: grid points, held-out mIoU of each (None: not tried), the index taken, held-out images."""

    grid: list[dict[str, float]]
    scores: list[float | None]
    index: int
    held_out: int


@dataclass(frozen=True)
class Fit:
    """A fitted head. report: iterations, loss, convergence. warnings: what makes the number incomparable."""

    head: LinearHead
    report: dict[str, Any]
    choice: Choice | None = None
    warnings: list[str] = field(default_factory=list)


class Probe(Protocol):
    """Built from a card's `probe` mapping; Errors: an option that it does not have."""

    def fit(self, context: FitContext) -> Fit:
        """Fit on the context's samples, taking up what an earlier try left in context.work."""
