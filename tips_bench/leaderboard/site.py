"""The leaderboard as a static site: records and what papers report, made into pages that need neither a server nor JavaScript.

The same records give the same bytes, wherever and whenever they are built.

    index.html     all scores, mean ranks, cost        tables/   one family under one protocol, a column a task
    tasks/         the boards of a task, in full        models/   all results of a model
    runs/          one record: provenance and cost      data/     everything as CSV and JSON
    contents.html  every model, task and table          versus/   a model against others, board by board
    compare.html   all models against all              samples/  the images of a board, its models side by side
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.files import write_text
from tips_bench.leaderboard.charts import Point, scatter, span
from tips_bench.leaderboard.class_tables import board_table
from tips_bench.leaderboard.downloads import write_data, write_ranks, write_reported
from tips_bench.leaderboard.front import front
from tips_bench.leaderboard.html import Against, Drawn, environment, picture_files, quantity, run_context, score, static, stylesheet
from tips_bench.leaderboard.published import Reported
from tips_bench.leaderboard.ranking import Board, Entry, boards, read
from tips_bench.leaderboard.sample_tables import board_samples, pair_href, samples_href
from tips_bench.leaderboard.share_image import share_image
from tips_bench.leaderboard.site_files import file_name, replaced
from tips_bench.leaderboard.standing import Standing, standing
from tips_bench.leaderboard.versus import GRID, grid, history, matches, neighbours
from tips_bench.results.untrusted_input import check_picture
from tips_bench.web import check_url
from tips_bench.wording import counted

# a protocol's name -> what it does differently from its source, the fields of its card
Deviations = Mapping[str, Sequence[Mapping[str, Any]]]

SHARE = "share.png"
SCRIPTS = ("theme.js", "table.js")
GALLERY, EACH = 3, 2  # models whose pictures the page of a task shows, and how many of each; the page of its images has more
TITLE = "tips-bench leaderboard"


@dataclass(frozen=True)
class Table:
    """The boards of one family under one protocol."""

    family: str
    protocol: str
    standing: Standing
    boards: list[Board]

    @property
    def href(self) -> str:
        return f"tables/{file_name(f'{self.family}-{self.protocol}')}.html"


@dataclass(frozen=True)
class Built:
    """What was built. on_boards: records that are compared with others. broken: what is wrong with each record that was left out."""

    records: int
    on_boards: int
    pages: int
    broken: list[UserError]


def build(
    folders: Iterable[Path],
    to: Path,
    *,
    reported: Sequence[Reported] = (),
    deviations: Deviations | None = None,
    title: str = TITLE,
    address: str | None = None,
    submit: str | None = None,
) -> Built:
    """Build the site of the records in `folders` at `to`, in the place of an earlier one.

    reported: numbers from papers, shown beside measured ones and never among them. deviations: of protocols from their sources.
    address: where the site will stand; links to its share image must be whole. submit: of a page that says how to submit a result.
    Errors: no record, a folder that holds files no site wrote, an address that is none.
    """
    address = _web_address(address) if address else ""
    if submit:
        check_url(submit, "--submit")
    entries, broken = read(folders)
    with replaced(to) as folder:
        site = _Site(folder, entries, list(reported), deviations or {}, title, address, submit or "")
        broken += site.write()
    return Built(len(entries), len(entries) - len(site.apart), site.pages, broken)


class _Site:
    """One build. hrefs in templates start at the site's root, which each page names relative to itself."""

    def __init__(
        self, folder: Path, entries: list[Entry], reported: list[Reported], deviations: Deviations, title: str, address: str, submit: str
    ) -> None:
        self.folder = folder
        self.entries = entries
        self.boards = boards(entries)
        self.overall = standing(self.boards)
        self.front = front(self.boards, self.overall)
        self.tables = _tables(self.boards)
        self.against = {entry.id: one for one in map(Against.of, self.boards) for entry in one.board.entries}
        self.apart = [entry for entry in entries if entry.id not in self.against]
        self.reported = reported
        self.title = title
        self.pages = 0
        self.templates = environment()
        self.templates.globals |= {
            "site_title": title,
            "address": address,
            "submit": submit,
            "tables": self.tables,
            "model_href": lambda model: f"models/{file_name(model)}.html",
            "task_href": lambda task: f"tasks/{file_name(task)}.html",
            "versus_href": lambda label: f"versus/{file_name(label)}.html",
            "run_href": lambda entry: f"runs/{entry.id}.html",
            "board_rank": self._rank,
            "deviations": lambda protocol: deviations.get(protocol, ()),
            "place": {entry.id: board for board in self.boards for entry in board.entries}.get,
            "samples_href": samples_href,
            "pair_href": pair_href,
        }

    def write(self) -> list[UserError]:
        """All pages; what is wrong with the pictures that were left out."""
        write_text(self.folder / "static" / "style.css", stylesheet())
        for name in SCRIPTS:
            write_text(self.folder / "static" / name, static(name))
        (self.folder / SHARE).write_bytes(self._share_image())
        pictures, broken = self._copy_pictures()
        self._page("index.html", "index.html.j2", self._index())
        self._page("contents.html", "contents.html.j2", self._contents())
        self._versus()
        for table in self.tables:
            self._page(table.href, "table.html.j2", {"table": table, "rows": _matrix(table), "scales": [_scale(b) for b in table.boards]})
        for task in sorted({entry.record.task for entry in self.entries}):
            self._page(f"tasks/{file_name(task)}.html", "task.html.j2", self._task(task, pictures))
        for model in sorted({entry.record.model_name for entry in self.entries}):
            self._page(f"models/{file_name(model)}.html", "model.html.j2", self._model(model))
        for board in self.boards:
            drawn = {entry.id: {one.sample: one.address for one in pictures[entry.id] if one.sample} for entry in board.entries}
            self._page(samples_href(board), "samples.html.j2", board_samples(board, self.against[board.entries[0].id].sums, drawn))
        for entry in self.entries:
            context = run_context(entry, pictures[entry.id], self.against.get(entry.id))
            self._page(f"runs/{entry.id}.html", "run.html.j2", context | {"papers": self._papers(entry)})
        write_data(self.folder / "data", self.entries, {entry.id: self._rank(b, entry) for b in self.boards for entry in b.entries})
        write_reported(self.folder / "data" / "published.csv", self.reported)
        write_ranks(self.folder / "data" / "ranks.csv", self.overall)
        return broken

    def _page(self, path: str, template: str, context: dict[str, Any]) -> None:
        text = self.templates.get_template(template).render(context, root="../" * path.count("/"), here=path)
        write_text(self.folder / path, text)
        self.pages += 1

    def _copy_pictures(self) -> tuple[dict[str, list[Drawn]], list[UserError]]:
        """Entry id -> its pictures, as pages in a folder of the site name them; and what was no picture."""
        copied: dict[str, list[Drawn]] = {}
        broken = []
        for entry in self.entries:
            copied[entry.id] = []
            for index, (file, sample) in enumerate(picture_files(entry)):
                try:
                    check_picture(file)
                except UserError as error:
                    broken.append(error)
                    continue
                name = f"pictures/{entry.id}-{index}.png"
                (self.folder / "pictures").mkdir(exist_ok=True)
                (self.folder / name).write_bytes(file.read_bytes())
                copied[entry.id].append(Drawn(f"../{name}", sample))
        return copied, broken

    def _rank(self, board: Board, entry: Entry) -> int:
        """1 + the number of entries with a better score."""
        return 1 + sum(board.metric.spec.better(other.metric.value, entry.metric.value) for other in board.entries)

    def _share_image(self) -> bytes:
        models, tasks = (len({getattr(entry.record, name) for entry in self.entries}) for name in ("model_name", "task"))
        counts = f"{counted(models, 'vision encoder')} on {counted(tasks, 'task')}"
        return share_image(self.title, counts, self.overall.ranks)

    def _index(self) -> dict[str, Any]:
        return {
            "overall": self.overall,
            **self.front,
            "leading": [(table, table.standing.ranks[:3]) for table in self.tables],
            "entry_of": {label: entry for board in self.boards for label, entry in board.by_label.items()},
            "counts": {
                "model": len({entry.record.model_name for entry in self.entries}),
                "task": len({entry.record.task for entry in self.entries}),
                "run": len(self.entries),
            },
            "images": sum(entry.record.cost.image_forwards for entry in self.entries),
            "apart": self.apart,
        }

    def _versus(self) -> None:
        """A page of all against all, and one of each model against its rivals."""
        models = {row.label: row.model for row in self.front["rows"]}
        order, columns = list(models), self.front["columns"]
        self._page("compare.html", "compare.html.j2", {"grid": grid(columns, order), "others": order[GRID:]})
        for label, model in models.items():
            found = matches(columns, label, neighbours(order, label))
            context = {"label": label, "model": model, "matches": found, "boards": columns, "limited": len(found) < len(order) - 1}
            self._page(f"versus/{file_name(label)}.html", "versus.html.j2", context)

    def _contents(self) -> dict[str, Any]:
        """Every model, task and board with how often it was scored."""
        return {
            "boards": self.boards,
            "models": Counter(entry.record.model_name for entry in self.entries),
            "tasks": Counter(entry.record.task for entry in self.entries),
        }

    def _task(self, task: str, pictures: dict[str, list[Drawn]]) -> dict[str, Any]:
        mine = [board for board in self.boards if board.task == task]
        on_board = {entry.id for board in mine for entry in board.entries}
        members = [entry for entry in self.entries if entry.record.task == task]
        return {
            "task": task,
            "card": members[0].record.cards.get("task") or {},
            "views": [self._board(board, pictures) for board in mine],
            "apart": [entry for entry in members if entry.id not in on_board],
            "reported": [row for row in self.reported if row.task == task],
        }

    def _board(self, board: Board, pictures: dict[str, list[Drawn]]) -> dict[str, Any]:
        devices = sorted({entry.machine for entry in board.entries})
        unit = board.metric.unit
        points = [
            Point(
                label=entry.label,
                x=entry.encoder_ms,
                y=entry.metric.value,
                sure=entry.metric.ci95,
                href=f"../runs/{entry.id}.html",
                detail=f"{entry.label}: {score(entry.metric.value, unit)} {unit}, {quantity(entry.encoder_ms)} ms",
                kind=min(devices.index(entry.machine), 3),
                machine=entry.machine,
            )
            for entry in board.entries
        ]
        label = f"{board.first.primary}, {unit}"
        return {
            "board": board,
            "id": f"{file_name(board.protocol)}-{board.key[:8]}",
            "scale": _scale(board),
            "others": [name for name in board.first.metrics if name != board.first.primary],
            "papers": {entry.id: self._papers(entry) for entry in board.entries},
            "chart": scatter(points, "milliseconds in the encoder, per image", label, board.metric.spec),
            "devices": devices,
            "classes": board_table(board, self.against[board.entries[0].id].classes),
            "gallery": [(entry, pictures[entry.id][:EACH]) for entry in board.entries if pictures[entry.id]][:GALLERY],
        }

    def _papers(self, entry: Entry) -> list[Reported]:
        """What papers report of this model, task and metric; those with the nearest protocol first."""
        record = entry.record
        found = [r for r in self.reported if (r.model, r.task, r.metric) == (record.model_name, record.task, record.primary)]
        return sorted(found, key=lambda row: row.protocol.like != record.protocol)

    def _model(self, model: str) -> dict[str, Any]:
        members = [entry for entry in self.entries if entry.record.model_name == model]
        return {
            "model": model,
            "card": members[0].record.cards.get("model") or {},
            "members": members,
            "papers": {entry.id: self._papers(entry) for entry in members},
            "reported": [row for row in self.reported if row.model == model],
            "labels": sorted({entry.label for entry in members if any(entry.label in board.by_label for board in self.boards)}),
            "history": history(self.boards, model),
            "scales": {board.key: _scale(board) for board in self.boards},
        }


def _web_address(text: str) -> str:
    """The address, ending in "/"."""
    if not re.fullmatch(r"https?://[^\s\"'<>\\?#]+", text):
        raise UserError(f"{text!r} is not the address of a site", where="--address", fix="Write it whole: https://example.org/board/.")
    return text.rstrip("/") + "/"


def _tables(found: list[Board]) -> list[Table]:
    def key(board: Board) -> tuple[str, str]:
        return board.family, board.protocol

    grouped = [(names, list(members)) for names, members in groupby(sorted(found, key=key), key=key)]
    return [Table(family, protocol, standing(members), members) for (family, protocol), members in grouped]


def _matrix(table: Table) -> list[dict[str, Any]]:
    """A row a label: those with a mean rank first, then those on the most boards."""
    ranks = {rank.label: rank for rank in table.standing.ranks}
    labels = {label: entry.record.model_name for board in table.boards for label, entry in board.by_label.items()}
    rows = [
        {"label": label, "model": model, "rank": ranks.get(label), "cells": [board.by_label.get(label) for board in table.boards]}
        for label, model in labels.items()
    ]
    return sorted(rows, key=lambda row: (row["rank"].value if row["rank"] else math.inf, row["cells"].count(None), row["label"]))


def _scale(board: Board) -> tuple[float, float]:
    """Of the intervals drawn for a board."""
    return span([end for entry in board.entries for end in entry.metric.ci95 or (entry.metric.value,)])
