"""What a probe is: options read from a protocol card, and a fit on a split that ends in a head."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tips_bench.data.split import Split
from tips_bench.features.context import RunContext


class Head(Protocol):
    """What a fit ends in. What its probe's `load` gives for a saved file is the same head."""

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
    """A fitted head. report: iterations, loss, convergence. warnings: what makes the number incomparable."""

    head: Any
    report: dict[str, Any]
    choice: Choice | None = None
    warnings: list[str] = field(default_factory=list)


class Probe(Protocol):
    """Built from a card's `probe` mapping and the name of the card for errors. Errors: an option that it does not have.

    reads_train: whether it is fitted on samples of the training split; a released head and clusters of the scored split are not. A probe
    whose head is the features of the training split themselves, which stay where they are, says so: `is_memory = True`.
    """

    reads_train: bool

    def fit(self, context: RunContext, split: Split) -> Fit:
        """Fit on the training split, or, where `reads_train` is false, without one, for the classes of the scored split.

        What an earlier try left in the context's scratch folder is taken up.
        """

    def load(self, path: Path) -> Any:
        """The head that an earlier try of this fit saved."""
