"""A table before it is text: columns, rows and cells with what a reader must be told of them."""

from __future__ import annotations

from dataclasses import dataclass

from tips_bench.metrics.spec import MetricSpec


@dataclass(frozen=True)
class Column:
    """A task's primary metric."""

    task: str
    metric: str
    spec: MetricSpec


@dataclass(frozen=True)
class Cell:
    """A score and its 95 % interval in the column's unit; NaN = not scored. signs: of its footnotes."""

    value: float
    interval: tuple[float, float] | None
    n: int
    signs: tuple[str, ...] = ()
    best: bool = False


@dataclass(frozen=True)
class Row:
    """cells: one a column, None where there is no record.

    images: through the backbone, of all cells, as minutes and images_per_s are. resumed: without what came before a break.
    """

    model: str
    protocol: str
    cells: tuple[Cell | None, ...]
    images: int
    minutes: float
    images_per_s: float
    resumed: bool


@dataclass(frozen=True)
class Layout:
    """A table before it is put in a format: full precision. notes: sign -> sentence of the footnotes, in order."""

    columns: list[Column]
    rows: list[Row]
    notes: dict[str, str]
