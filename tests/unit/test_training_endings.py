"""Why an attempt to train ended, as the history of the run says it; and attempts that are not made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.pretraining import recipe
from tips_bench.errors import UserError
from tips_bench.heartbeat import RankLeft
from tips_bench.training.divergence import Diverged
from tips_bench.training.endings import noted, raise_if_diverged
from tips_bench.training.history import START, History, read_history
from tips_bench.training.loop import train


def _end(history: History, error: Exception) -> None:
    with pytest.raises(type(error)), noted(history, recipe()):
        raise error


def _reasons(run: Path) -> list[tuple[int, str]]:
    return [(line["rank"], line["why"]) for line in read_history(run) if line["event"] == "stopped"]


def test_each_attempt_has_the_reason_that_a_rank_gives_first(tmp_path: Path) -> None:
    for reason in ("the disk is full", "the disk is still full"):
        ranks = [History(tmp_path, rank) for rank in range(3)]
        ranks[0].add(START, ranks=3)
        ranks[1].add(START, ranks=3)
        ranks[2].step = 7
        _end(ranks[2], UserError(reason))
        _end(ranks[1], RankLeft("another rank has ended"))
        _end(ranks[0], RankLeft("another rank has ended"))
    assert _reasons(tmp_path) == [(2, "the disk is full"), (2, "the disk is still full")]
    assert [line["event"] for line in read_history(tmp_path)] == ["start", "stopped", "start", "stopped"]
    assert read_history(tmp_path)[1]["step"] == 7


def test_a_rank_that_left_without_a_word_is_noted_by_the_first_alone(tmp_path: Path) -> None:
    first, other = History(tmp_path, 0), History(tmp_path, 1)
    with pytest.raises(RankLeft), noted(other, recipe()):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:48123")
    assert _reasons(tmp_path) == []
    _end(first, RankLeft("another rank has ended"))
    assert _reasons(tmp_path) == [(0, "another rank has ended")]


def test_a_mistake_of_ours_and_a_reader_that_was_killed_are_noted_too(tmp_path: Path) -> None:
    _end(History(tmp_path), KeyError("student"))
    with pytest.raises(UserError, match=r"data\.workers"), noted(History(tmp_path), recipe()):
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    (_, bug), (_, reader) = _reasons(tmp_path)
    assert bug == "KeyError: 'student'" and "a process that reads the data was killed" in reader


def test_a_folder_that_is_gone_hides_no_error(tmp_path: Path) -> None:
    _end(History(tmp_path / "gone"), UserError("the shards are not there"))


def test_torchrun_does_not_train_a_run_that_diverged_the_same_way_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same, lower = recipe(), recipe(stages__0__learning_rate=1e-4)
    _end(History(tmp_path), Diverged("the loss has diverged", where="step 900", fix="Lower the learning rate."))
    raise_if_diverged(tmp_path, same)  # a user may try
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError, match=r"^step 900: the loss has diverged\. Lower the learning rate\.$"):
        train(same, tmp_path, resume=True, device="cpu")
    raise_if_diverged(tmp_path, lower)
    History(tmp_path).add(START, ranks=1)
    raise_if_diverged(tmp_path, same)  # what ended last was another attempt
