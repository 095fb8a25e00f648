"""Who of the ranks lives, and which of them says why a run ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from tips_bench import heartbeat
from tips_bench.errors import UserError
from tips_bench.heartbeat import Heartbeat, RankLeft, meeting

BEATS = 12  # of a limit


def of(size: int, limit_s: float = 60.0, store: dist.Store | None = None) -> Heartbeat:
    """The heartbeat of rank 0, which no thread beats."""
    return Heartbeat(0, size, limit_s, store or dist.HashStore())


def test_a_rank_whose_beats_do_not_change_is_silent_after_the_limit() -> None:
    own = of(3)
    for beat in range(BEATS + 1):
        assert own.silence() is None
        own.hear({1: f"{beat} here 1", 2: "7 here 2"})
    own.hear({1: "99 here 1", 2: "7 here 2"})
    assert own.silence() == "rank 2 did not answer for 1 minutes"


def test_a_rank_that_never_told_anything_is_silent_too_and_one_that_left_is_not() -> None:
    own = of(3)
    for _ in range(BEATS + 2):
        own.hear({1: "left"})
    assert own.silence() == "rank 2 did not answer for 1 minutes"


def test_a_rank_may_be_slow_for_as_long_as_it_beats() -> None:
    own = of(2)
    for beat in range(100 * BEATS):
        own.hear({1: f"{beat // BEATS} here 1"})
    assert own.silence() is None


def test_many_silent_ranks_are_counted() -> None:
    own = of(12)
    for _ in range(BEATS + 2):
        own.hear({})
    assert own.silence() == "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more did not answer for 1 minutes"


def test_one_of_all_ranks_says_why_the_run_ends() -> None:
    store, said = dist.HashStore(), []
    for rank in range(3):
        Heartbeat(rank, 3, 60.0, store).speak(lambda rank=rank: said.append(rank))
    assert said == [0]


def test_a_process_that_has_died_is_gone_and_one_that_left_is_not() -> None:
    store = dist.HashStore()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = os.uname().nodename
    own = of(5, store=store)
    told = {1: f"3 {here} {dead.pid}", 2: f"3 {here} {os.getpid()}", 3: f"3 elsewhere {dead.pid}", 4: "left"}
    own.hear(told)
    assert own.gone() == [1]


def test_a_process_that_nobody_has_asked_about_yet_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # it has died, and stays as what Linux calls a zombie
        own = of(2)
        own.hear({1: f"3 {os.uname().nodename} {dead.pid}"})
        assert own.gone() == [1]


def test_an_error_of_a_collective_is_a_sentence_where_ranks_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer")
    with pytest.raises(RuntimeError, match="gloo"), meeting():
        raise failed
    monkeypatch.setattr(heartbeat, "_running", of(2))
    with pytest.raises(RankLeft, match=r"another rank ended before the evaluation did\. .* The same command goes on"), meeting():
        raise failed
    with pytest.raises(RuntimeError, match="shapes"), meeting():
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "nan", "inf"])
def test_a_limit_that_is_no_number_of_minutes_is_a_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(heartbeat.LIMIT_VARIABLE, text)
    with pytest.raises(UserError, match=r"\$TIPS_BENCH_TIMEOUT_MINUTES: .* is not a number of minutes\. Write, for example, 10"):
        heartbeat.start(0, 2)


class Frozen(dist.HashStore):
    """A store whose process hangs."""

    def add(self, key: str, amount: int) -> int:
        time.sleep(60)
        return amount


def test_a_store_that_does_not_answer_keeps_no_rank_from_saying_why_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "_STORE_S", 0.1)
    said: list[str] = []
    of(2, store=Frozen()).speak(lambda: said.append("gone"))
    assert said == ["gone"]
