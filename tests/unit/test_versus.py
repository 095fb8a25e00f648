"""Model against model: paired, signed, and what it says of a model's own versions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.ranking import Board, boards, read
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.versus import grid, history, matches, neighbours
from tips_bench.results.comparison import compare


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    for task, protocol in (("rooms-seg", "convex-224"), ("voc2012", "convex")):
        for model, quality in {"good": 0.8, "near": 0.79, "poor": 0.3}.items():
            write_record(out, model, quality, task=task, protocol=protocol)
    for month, quality in ((3, 0.6), (1, 0.3)):
        write_record(out, "own", quality, seed=month, weights_sha256=f"{month}" * 64, created=f"2026-0{month}-01T00:00:00Z")
    return out


@pytest.fixture(scope="module")
def found(results: Path) -> list[Board]:
    return boards(read([results])[0])


def test_a_difference_is_paired_and_its_sign_is_a_lead(found: list[Board]) -> None:
    (match,) = matches(found, "good", ["poor"])
    for board, duel in zip(found, match.duels, strict=True):
        good, poor = board.by_label["good"], board.by_label["poor"]
        assert duel is not None
        assert duel.gain == pytest.approx(good.metric.value - poor.metric.value)
        assert duel.sure == pytest.approx(tuple(np.percentile(good.drawn_R - poor.drawn_R, [2.5, 97.5])))
        assert duel.verdict == "better"
        assert compare(poor.path, good.path).verdict == "B is better"
    assert match.count("better") == 2 and match.count("worse") == 0


def test_what_one_wins_the_other_loses(found: list[Board]) -> None:
    (there,), (back,) = matches(found, "good", ["near"]), matches(found, "near", ["good"])
    for one, other in zip(there.duels, back.duels, strict=True):
        assert one is not None and other is not None and one.sure is not None
        assert other.gain == pytest.approx(-one.gain)
        assert other.sure == pytest.approx((-one.sure[1], -one.sure[0]))


def test_models_that_share_no_board_have_no_difference(tmp_path: Path) -> None:
    write_record(tmp_path, "a", 0.5)
    write_record(tmp_path, "b", 0.5, task="voc2012", protocol="convex")
    (match,) = matches(boards(read([tmp_path])[0]), "a", ["b"])
    assert match.duels == [None, None]
    assert match.count("") == 0


def test_the_grid_is_empty_on_its_diagonal_and_mirrored(found: list[Board]) -> None:
    rows = grid(found, ["good", "near", "poor"])
    for index, (_, row) in enumerate(rows):
        assert row[index] is None
        for other, match in enumerate(row):
            mirrored = rows[other][1][index]
            assert match is mirrored is None or (match and mirrored and match.count("better") == mirrored.count("worse"))


def test_the_history_of_a_model_is_by_date_and_each_change_is_against_the_one_before(found: list[Board]) -> None:
    first, second = history(found, "own")
    assert (first.entry.record.created, second.entry.record.created) == ("2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z")
    assert first.change is None
    assert second.change is not None and second.change.verdict == "better"
    assert second.change.gain == pytest.approx(second.entry.metric.value - first.entry.metric.value)
    assert not history(found, "good")


@given(st.integers(1, 60), st.data())
def test_neighbours_are_as_many_as_there_can_be_and_never_the_model_itself(number: int, data: st.DataObject) -> None:
    order = [f"m{index}" for index in range(number)]
    label = data.draw(st.sampled_from(order))
    near = neighbours(order, label)
    assert len(near) == min(20, number - 1)
    assert label not in near and near == sorted(near, key=order.index)


def test_the_pages_show_the_differences_and_the_history(results: Path, found: list[Board], tmp_path: Path) -> None:
    build([results], tmp_path / "site")
    page = (tmp_path / "site" / "versus" / "good.html").read_text()
    rivals = {label for board in found for label in board.by_label} - {"good"}
    better = sum(match.count("better") for match in matches(found, "good", sorted(rivals)))
    assert better >= 2 and len(re.findall(r'<td class="better"><a href="[^"]*#table=samples&amp;a=good&amp;b=[^"]*">\+', page)) == better
    assert "<h2>History</h2>" in (tmp_path / "site" / "models" / "own.html").read_text()
    assert "<h2>History</h2>" not in (tmp_path / "site" / "models" / "good.html").read_text()
    assert 'href="versus/good.html"' in (tmp_path / "site" / "compare.html").read_text()
