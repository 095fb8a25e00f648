"""What papers report, each number with its source, and a measured record beside it.

leaderboards/published/ holds a file per paper: its protocols as it states them, and its tables. A reported number is never put in a
column with measured ones: it has no samples, so nothing says how sure it is, and its protocol is known only as far as it is stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tips_bench import plain_yaml
from tips_bench.catalog import shipped
from tips_bench.errors import UserError
from tips_bench.results.counts import card_differences
from tips_bench.results.record import MetricValue, Record


class Part(BaseModel):
    """A piece of a paper's file; unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class StatedProtocol(Part):
    """A protocol as the paper states it. like: our protocol that comes nearest. unstated: what the paper leaves open."""

    text: str
    like: str | None = None
    unstated: list[str]


class Score(Part):
    """A column of a table: one of our tasks, whether it exists yet or not. protocol: a key of the paper's protocols."""

    task: str
    metric: str
    unit: str
    protocol: str


class Row(Part):
    """A line of a table. printed: the model's name in the paper. model: the same model in our zoo. values: null where there is none."""

    printed: str
    model: str | None = None
    values: list[float | None]
    note: str = ""


class Table(Part):
    """where: the table, section or file it stands in. second_hand: which of its numbers are not the authors' own, and whose they are."""

    where: str
    scores: list[Score]
    rows: list[Row]
    note: str = ""
    second_hand: str = ""

    @model_validator(mode="after")
    def _a_value_a_column(self) -> Self:
        for row in self.rows:
            if len(row.values) != len(self.scores):
                raise ValueError(f"{row.printed!r} has {len(row.values)} values for {len(self.scores)} columns")
        return self


class Paper(Part):
    """One file of leaderboards/published/. read_in: what was read to write its numbers down."""

    name: str
    title: str
    citation: str
    url: str | None
    read_in: str
    protocols: dict[str, StatedProtocol]
    tables: list[Table]

    @model_validator(mode="after")
    def _protocols_are_there_and_used(self) -> Self:
        used = {score.protocol for table in self.tables for score in table.scores}
        if used != set(self.protocols):
            raise ValueError(f"protocols named but not stated, or stated but not used: {sorted(used ^ set(self.protocols))}")
        return self


@dataclass(frozen=True)
class Reported:
    """One reported number, in `unit`. model: the zoo's name where there is one, else as printed."""

    model: str
    printed: str
    task: str
    metric: str
    unit: str
    value: float
    protocol: StatedProtocol
    paper: str
    citation: str
    url: str | None
    where: str
    note: str


def read_paper(path: Path) -> Paper:
    """One paper's file. Errors: not plain YAML, a wrong key or value, a name that is not the file's."""
    try:
        paper = Paper.model_validate(plain_yaml.load(path))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{key}: {problem}" if key else problem, where=path) from error
    if paper.name != path.stem:
        raise UserError(
            f"name = {paper.name!r}, but the file is {path.name}", where=path, fix="Give the card the name of its file, or rename the file."
        )
    return paper


def reported(folder: Path | None = None) -> list[Reported]:
    """Every reported number, paper by paper, in the order of their tables. folder: the shipped one where none is given."""
    papers = [read_paper(path) for path in sorted((folder or shipped("leaderboards") / "published").glob("*.yaml"))]
    return [
        Reported(
            model=row.model or row.printed,
            printed=row.printed,
            task=score.task,
            metric=score.metric,
            unit=score.unit,
            value=value,
            protocol=paper.protocols[score.protocol],
            paper=paper.title,
            citation=paper.citation,
            url=paper.url,
            where=table.where,
            note=" ".join(_notes(paper, table, row)),
        )
        for paper in papers
        for table in paper.tables
        for row in table.rows
        for score, value in zip(table.scores, row.values, strict=True)
        if value is not None
    ]


def _notes(paper: Paper, table: Table, row: Row) -> list[str]:
    second_hand = f"Second-hand: {table.second_hand}" if table.second_hand else ""
    return [note for note in (row.note, table.note, second_hand, f"Read in {paper.read_in}.") if note]


@dataclass(frozen=True)
class Beside:
    """A reported number and how far a measured one is from it. distance: measured - reported, in the metric's unit.

    inside: the reported number lies in the measured 95 % interval, None without one. differences: of what is known of the protocols.
    """

    reported: Reported
    measured: MetricValue
    distance: float
    inside: bool | None
    differences: list[str]


def beside_papers(record: Record, protocols: Mapping[str, Mapping[str, Any]], folder: Path | None = None) -> list[Beside]:
    """What papers report of a record's model and task, the nearest protocol first.

    protocols: our protocol cards as plain data, by name. Errors: no paper reports this model on this task.
    """
    model, rows = record.model, reported(folder)
    found = [row for row in rows if row.model == model and row.task == record.task and row.metric in record.metrics]
    if not found:
        others = sorted({row.task for row in rows if row.model == model})
        fix = f"Of {model} they report: {', '.join(others)}." if others else "They report: " + _known_models(rows, record.task)
        raise UserError(f"no paper here reports {model} on {record.task}", where="--published", fix=fix)
    beside = []
    for row in found:
        metric = record.metrics[row.metric]
        inside = None if metric.ci95 is None else metric.ci95[0] <= row.value <= metric.ci95[1]
        differences = [f"weights: {record.weights} in place of the released ones"] if record.weights else []
        differences += _protocol_differences(record, row.protocol, protocols) + list(map(str, record.deviations))
        beside.append(Beside(row, metric, metric.value - row.value, inside, differences))
    return sorted(beside, key=lambda one: (one.reported.protocol.like != record.protocol, len(one.differences)))


def _known_models(rows: list[Reported], task: str) -> str:
    models = sorted({row.model for row in rows if row.task == task})
    return f"on {task}, {', '.join(models)}." if models else f"the tasks {', '.join(sorted({row.task for row in rows}))}."


def _protocol_differences(record: Record, stated: StatedProtocol, protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if stated.like is None:
        return [f"protocol: {record.protocol}, and none of ours is like the paper's"]
    if stated.like not in protocols:
        raise UserError(f"there is no protocol {stated.like!r}", where="leaderboards/published", fix="Name one of tasks/protocols.")
    values = card_differences(
        record.cards.get("protocol"), protocols[stated.like], record.protocol, f"{stated.like} (nearest to the paper's)"
    )
    return (
        values if record.protocol == stated.like else [f"protocol: {record.protocol}, the nearest to the paper's is {stated.like}", *values]
    )


def papers_data(found: list[Beside]) -> list[dict[str, Any]]:
    """The comparison as plain data; reported and measured apart."""
    return [
        {
            "reported": {**asdict(one.reported), "protocol": one.reported.protocol.model_dump()},
            "measured": one.measured.model_dump(mode="json"),
            "distance": None if math.isnan(one.distance) else one.distance,
            "inside_ci95": one.inside,
            "differences": one.differences,
        }
        for one in found
    ]
