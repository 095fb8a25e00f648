"""What a probe is: options read from a protocol card, and a fit on a training split that ends in a head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tips_bench.cards import ModelCard, SelectionCard, WindowCard
from tips_bench.features.cache import FeatureCache
from tips_bench.features.extract import Extractor


@dataclass(frozen=True)
class FitContext:
    """What every probe fits on. indices: the samples of the reader's split that may be used. work: folder for what a killed run takes up.

    reader: of the family's kind. cache: where stores of features lie. model: the card of the encoder.
    """

    extractor: Extractor
    reader: Any
    indices: list[int]
    inference: WindowCard
    selection: SelectionCard
    work: Path
    cache: FeatureCache
    seed: int
    model: ModelCard | None = None


class Head(Protocol):
    """What a fit ends in. Its class also reads it: `load(path)`."""

    def save(self, path: Path) -> None:
        """Write to one file, atomically."""


@dataclass(frozen=True)
class Choice:
    """How hyper-parameters were chosen: grid points, held-out score of each (None: not tried), the index taken, held-out samples.

    metric: what the scores are, None = the task's primary metric.
    """

    grid: list[dict[str, float]]
    scores: list[float | None]
    index: int
    held_out: int
    metric: str | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted head, None where nothing is fitted. report: iterations, loss, convergence. warnings: what makes the number incomparable."""

    head: Any
    report: dict[str, Any]
    choice: Choice | None = None
    warnings: list[str] = field(default_factory=list)


class Probe(Protocol):
    """Built from a card's `probe` mapping; Errors: an option that it does not have."""

    def fit(self, context: FitContext) -> Fit:
        """Fit on the context's samples, taking up what an earlier try left in context.work."""
