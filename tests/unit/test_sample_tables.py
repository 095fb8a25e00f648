"""Samples as tables: the choice is what it says, ties and missing scores, and every family has them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.helpers.results_sets import write_record
from tips_bench.leaderboard import sample_tables
from tips_bench.leaderboard.breakdown import BySample, by_class, by_sample
from tips_bench.leaderboard.class_tables import board_classes, board_table, record_table
from tips_bench.leaderboard.ranking import Board, Entry, boards, read
from tips_bench.leaderboard.sample_tables import SHOWN, BoardSums, board_samples, pair_href, record_samples, samples_href
from tips_bench.metrics.retrieval import metric_names
from tips_bench.metrics.spec import MetricSpec
from tips_bench.registry import FAMILIES


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    out = tmp_path_factory.mktemp("results")
    for model, quality in {"good": 0.8, "near": 0.78, "poor": 0.3}.items():
        write_record(out, model, quality, number=400)
    (found,) = boards(read([out])[0])
    return found


def of_values(values_MN: list[list[float]], *, higher: bool = True) -> Board:
    """A board of models with these scores on single samples."""
    entries = []
    for number, values_N in enumerate(values_MN):
        ids = tuple(f"s{place}" for place in range(len(values_N)))
        metric = SimpleNamespace(spec=MetricSpec("%", higher), unit="%")
        entries.append(
            SimpleNamespace(id=f"e{number}", label=f"m{number}", metric=metric, by_sample=BySample(ids, ids, "images", np.array(values_N)))
        )
    return Board("task", "segmentation", "convex", "k" * 12, entries)  # type: ignore[arg-type]


def listed(board: Board, model: int = 0) -> dict[str, list[Any]]:
    sums = BoardSums.of(board) if len(board.entries) > 1 else None
    return dict(record_samples(board.entries[model], sums, {})["lists"])


def test_the_hardest_images_are_those_that_a_record_names_itself(board: Board) -> None:
    entry = board.entries[0]
    alone = entry.record.samples()["mIoU"]
    found = listed(board)
    assert [row.value for row in found["Hardest"]] == alone.nsmallest(SHOWN).tolist()
    assert [row.value for row in found["Easiest"]] == alone.nlargest(SHOWN).tolist()
    assert all(alone[row.id] == row.value for rows in found.values() for row in rows)


def test_the_others_are_their_mean_and_a_lead_is_signed(board: Board) -> None:
    alone = {entry.label: entry.record.samples()["mIoU"] for entry in board.entries}
    mine = board.entries[0].label
    others = sum(values for label, values in alone.items() if label != mine) / (len(alone) - 1)
    found = listed(board)
    lead = (alone[mine] - others).sort_values()
    assert [row.gain for row in found["Most behind the other models"]] == pytest.approx(lead[lead < 0].head(SHOWN).tolist())
    assert [row.gain for row in found["Most ahead of the other models"]] == pytest.approx(lead[::-1].head(SHOWN).tolist())


def test_where_lower_is_better_the_hardest_has_the_highest_value() -> None:
    board = of_values([[1.0, 5.0, 3.0, 2.0], [2.0, 2.0, 2.0, 2.0]], higher=False)
    found = listed(board)
    assert [row.id for row in found["Hardest"]] == ["s1", "s2"]
    assert [(row.id, row.gain) for row in found["Most behind the other models"]] == [("s1", -3.0), ("s2", -1.0)]
    assert [(row.id, row.gain) for row in found["Most ahead of the other models"]] == [("s0", 1.0)]


def test_of_equal_scores_those_come_first_that_the_others_solve() -> None:
    board = of_values([[0.0, 0.0, 100.0, 100.0], [0.0, 100.0, 100.0, 0.0], [0.0, 100.0, 0.0, 0.0]])
    assert [row.id for row in listed(board)["Hardest"]] == ["s1", "s0"]
    assert [row.id for row in listed(board)["Easiest"]] == ["s3", "s2"]


def test_a_sample_without_a_score_is_in_no_list_and_counted() -> None:
    board = of_values([[math.nan, 1.0, 2.0], [math.nan, 2.0, math.nan]])
    found = record_samples(board.entries[0], BoardSums.of(board), {})
    assert (found["scored"], found["unscored"]) == (2, 1)
    rows = [row for _, rows in found["lists"] for row in rows]
    assert "s0" not in {row.id for row in rows}
    assert {row.id: row.others for row in rows} == {"s1": 2.0, "s2": None}
    page = board_samples(board, BoardSums.of(board), {})
    assert [row["id"] for row in page["rows"]] == ["s1", "s2"] and page["apart"] is None


def test_no_sample_that_is_left_out_is_harder_or_tells_two_models_further_apart(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_tables, "DIFFERENT", 30)
    monkeypatch.setattr(sample_tables, "HARD", 20)
    page = board_samples(board, BoardSums.of(board), {})
    assert 30 <= len(page["rows"]) <= 50
    shown = {row["id"] for row in page["rows"]}
    alone = {entry.label: entry.record.samples()["mIoU"] for entry in board.entries}
    left = [id for id in alone["good"].index if id not in shown]
    assert len(left) + len(shown) == page["scored"] == 400
    assert max(abs(alone[a][id] - alone[b][id]) for id in left for a, b in itertools.combinations(alone, 2)) == pytest.approx(page["apart"])
    assert min(sum(values[id] for values in alone.values()) / 3 for id in left) == pytest.approx(page["hard"])


def test_a_sample_with_a_picture_is_on_the_page_whatever_its_score(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_tables, "DIFFERENT", 3)
    monkeypatch.setattr(sample_tables, "HARD", 3)
    usual = {row["id"] for row in board_samples(board, BoardSums.of(board), {})["rows"]}
    one = next(id for id in board.entries[0].by_sample.ids if id not in usual)
    two = next(iter(usual))
    pictures = {board.entries[0].id: {one: "a.png", two: "b.png"}, board.entries[2].id: {two: "c.png"}}
    page = board_samples(board, BoardSums.of(board), pictures)
    assert {row["id"] for row in page["rows"]} == usual | {one}
    assert [(shown["id"], [address for _, _, address in shown["drawn"]]) for shown in page["gallery"]] == [
        (two, ["b.png", "c.png"]),
        (one, ["a.png"]),
    ]


def test_models_that_agree_are_neither_ahead_nor_behind_and_a_model_alone_has_its_hardest_first() -> None:
    same = [0.1 + 1 / 3, 70.3, 12.7]
    found = record_samples(of_values([same] * 3).entries[0], BoardSums.of(of_values([same] * 3)), {})
    assert [title for title, _ in found["lists"]] == ["Hardest", "Easiest"]
    alone = of_values([same])
    assert [row["id"] for row in board_samples(alone, BoardSums.of(alone), {})["rows"]] == ["s0", "s2", "s1"]


def test_only_a_pair_that_the_page_shows_has_a_link_to_it(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair_href(board, "good", "poor") == f"{samples_href(board)}#table=samples&a=good&b=poor"
    monkeypatch.setattr(sample_tables, "MODELS", 2)
    assert pair_href(board, "good", "poor") is None


def test_records_of_the_same_samples_hold_their_ids_once(board: Board) -> None:
    assert len({id(entry.by_sample.ids) for entry in board.entries}) == 1


@pytest.mark.parametrize("family", sorted(FAMILIES.names()))
def test_every_family_has_samples_and_the_classes_that_its_counts_declare(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are drawn at random, so the values mean nothing; what the class of counts declares decides."""
    kind = FAMILIES.get(family).counts_class()
    monkeypatch.setattr(kind, "check", lambda self, counts, *, where: None)
    draw = np.random.default_rng(0)
    dataset = SimpleNamespace(classes=["a", "b", "c"])
    metrics = dict.fromkeys(metric_names(1))
    entries = []
    for number in range(3):
        record = SimpleNamespace(dataset=dataset, metrics=metrics, selection=None, model_name=f"m{number}")
        counts = kind.of_record(record)
        record.primary, spec = next(iter(counts.specs.items()))
        record.primary_metric = SimpleNamespace(spec=spec, unit=spec.unit, value=1.0)
        for sample in range(30):
            counts.update(f"s{sample}", f"g{sample // 2}", draw.integers(0, 5, counts.shape).astype(counts.dtype))
        scored = SimpleNamespace(record=record, counts=counts, family=kind, beside={})
        totals = counts.counts_N.sum(axis=0) * np.ones((500, *[1] * len(counts.shape)))
        found = by_class(scored, totals), by_sample(scored, "", {})  # type: ignore[arg-type]
        entries.append(Entry(Path(), record, f"e{number}", "", np.zeros(1), {}, *found, None, f"m{number}", f"m{number}"))  # type: ignore[arg-type]
    board = Board("task", family, "protocol", "k" * 12, entries)
    sums, classes = BoardSums.of(board), board_classes(board)
    assert len(board_samples(board, sums, {})["rows"]) + np.isnan(sums.mean()).sum() == 30
    assert record_samples(entries[0], sums, {})["item"] == kind.item
    table = board_table(board, classes)
    assert (table is not None) == bool(kind.per_class) == (record_table(entries[0], board, classes) is not None)
    assert table is None or len(table["rows"]) == 3
