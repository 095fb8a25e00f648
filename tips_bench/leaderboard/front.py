"""The front page: which encoder should I take? All scores in one table, the order with its uncertainty, scores against cost.

A cell's shade says where its score lies between the worst and the best of its board, so columns of different units can be read together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import geometric_mean
from typing import Any

from tips_bench.leaderboard.charts import Point, pareto, scatter
from tips_bench.leaderboard.html import quantity
from tips_bench.leaderboard.ranking import Board, Entry
from tips_bench.leaderboard.site_files import file_name
from tips_bench.leaderboard.standing import Rank, Standing
from tips_bench.metrics.spec import MetricSpec

SHADES = 10
MEAN_RANK = MetricSpec("", higher_is_better=False)


@dataclass(frozen=True)
class Cell:
    """A score on its board. mark: "b" = the best, told from all others; "t" = among the best; "" = neither."""

    entry: Entry
    shade: int
    mark: str


@dataclass(frozen=True)
class Row:
    """A model.

    place: 1 + the number of models with a smaller mean rank, 0 without a mean rank. ms: in the encoder for one image, the geometric mean
    over the boards that at least half of the models stand on; NaN where one of them is missing or unknown, or where several machines
    measured it. parameters: in millions, NaN where unknown. about: patch size and license, as one line.
    """

    label: str
    model: str
    rank: Rank | None
    place: int
    cells: list[Cell | None]
    ms: float
    machine: str
    parameters: float
    about: str


def front(found: Sequence[Board], overall: Standing) -> dict[str, Any]:
    """What the front page shows of the boards. groups: (family, its number of columns), in the order of the columns."""
    columns = sorted(found, key=lambda board: (board.family, board.protocol, board.task, -len(board.entries), board.key))
    rows = _rows(columns, overall)
    ranked = [row for row in rows if row.rank]
    machines = sorted({row.machine for row in ranked if row.ms > 0})
    timed = [_point(row, row.rank, row.ms, "ms", machines) for row in ranked if row.rank and row.ms > 0]
    sized = [_point(row, row.rank, row.parameters, "M parameters") for row in ranked if row.rank and row.parameters > 0]
    return {
        "columns": columns,
        "groups": [(family, len(list(boards))) for family, boards in groupby(columns, key=lambda board: board.family)],
        "rows": rows,
        "machines": machines,
        "by_time": scatter(timed, "milliseconds in the encoder, per image", "mean rank, best above", MEAN_RANK),
        "by_size": scatter(sized, "millions of parameters", "mean rank, best above", MEAN_RANK),
        "fronts": [(machine, pareto([point for point in timed if point.machine == machine], MEAN_RANK)) for machine in machines],
        "undecided": [rank for rank in overall.ranks if rank.undecided],
        "leaders": [row for row in ranked if row.rank and row.rank.places[0] == 1],
    }


def _rows(columns: Sequence[Board], overall: Standing) -> list[Row]:
    """Those with a mean rank first, then those on the most boards."""
    ranks = {rank.label: rank for rank in overall.ranks}
    cells: dict[str, list[Cell | None]] = {label: [None] * len(columns) for board in columns for label in board.by_label}
    for index, board in enumerate(columns):
        for label, cell in _cells(board).items():
            cells[label][index] = cell
    common = [board for board in columns if 2 * len(board.entries) >= len(cells)]  # times on other boards do not compare
    rows = [_row(label, found, ranks.get(label), overall, common) for label, found in cells.items()]
    return sorted(rows, key=lambda row: (row.rank.value if row.rank else math.inf, row.cells.count(None), row.label))


def _row(label: str, cells: list[Cell | None], rank: Rank | None, overall: Standing, common: Sequence[Board]) -> Row:
    entry = next(cell.entry for cell in cells if cell)
    card = entry.record.cards.get("model") or {}
    timed = [board.by_label[label] for board in common if label in board.by_label]
    machines = {one.machine for one in timed}
    known = len(machines) == 1 and len(timed) == len(common) and all(one.encoder_ms > 0 for one in timed)
    parameters = card.get("parameters")
    size = parameters / 1e6 if isinstance(parameters, int | float) and parameters > 0 else math.nan
    patch = card.get("patch_size")
    facts = [f"patch {patch}" if patch else "", str(card.get("license") or "")]
    return Row(
        label=label,
        model=entry.record.model_name,
        rank=rank,
        place=1 + sum(other.value < rank.value for other in overall.ranks) if rank else 0,
        cells=cells,
        ms=geometric_mean(one.encoder_ms for one in timed) if known else math.nan,
        machine=machines.pop() if known else "",
        parameters=size,
        about=" · ".join(filter(None, facts)),
    )


def _cells(board: Board) -> dict[str, Cell]:
    scored = [entry.metric.value for entry in board.entries if not math.isnan(entry.metric.value)]
    low, high = min(scored, default=0.0), max(scored, default=0.0)
    first = board.entries[0].id
    marks = dict.fromkeys(board.tied, "t")
    if board.sure or board.tied:
        marks[first] = "b" if board.sure else "t"
    return {
        entry.label: Cell(entry, _shade(entry.metric.value, low, high, board.metric.spec), marks.get(entry.id, ""))
        for entry in board.entries
    }


def _shade(value: float, low: float, high: float, spec: MetricSpec) -> int:
    """0 = the worst of the board or not scored, SHADES - 1 = the best."""
    if math.isnan(value) or low == high:
        return 0
    share = (value - low) / (high - low)
    return round((SHADES - 1) * (share if spec.higher_is_better else 1 - share))


def _point(row: Row, rank: Rank, cost: float, unit: str, machines: Sequence[str] = ()) -> Point:
    """machines: those told apart in the chart, none where the cost does not depend on them."""
    return Point(
        label=row.label,
        x=cost,
        y=rank.value,
        sure=rank.over_tasks or rank.interval,
        href=f"models/{file_name(row.model)}.html",
        detail=f"{row.label}: mean rank {rank.value:.2f}, {quantity(cost)} {unit}",
        kind=min(machines.index(row.machine), 3) if machines else 0,
        machine=row.machine if machines else "",
    )
