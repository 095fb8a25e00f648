"""Who ends for good when a run is told to stop, and who is started again."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tips_bench.errors import UserError
from tips_bench.training import preemption
from tips_bench.training.preemption import first_interrupt, raise_if_not_told, sigterm


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "SPREAD_S", 0.0)


def _launched(monkeypatch: pytest.MonkeyPatch, restarts: int, allowed: int) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", str(allowed))


def test_a_rank_that_nobody_told_to_stop_fails_so_that_torchrun_starts_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _launched(monkeypatch, 2, 3)
    with pytest.raises(UserError, match="torchrun: other ranks of this run were stopped by SIGTERM, and a checkpoint was written"):
        raise_if_not_told(threading.Event())


def test_a_rank_that_was_told_to_stop_ends_as_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    _launched(monkeypatch, 0, 3)
    with sigterm() as told:
        os.kill(os.getpid(), signal.SIGTERM)
        raise_if_not_told(told)


def test_a_signal_that_comes_a_little_later_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    _launched(monkeypatch, 0, 3)
    monkeypatch.setattr(preemption, "SPREAD_S", 600.0)
    with sigterm() as told:
        monkeypatch.setattr(preemption.time, "sleep", lambda seconds: os.kill(os.getpid(), signal.SIGTERM))
        raise_if_not_told(told)


def test_without_a_restart_that_is_left_all_ranks_end_as_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    _launched(monkeypatch, 3, 3)
    raise_if_not_told(threading.Event())
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    monkeypatch.delenv("TORCHELASTIC_MAX_RESTARTS")
    raise_if_not_told(threading.Event())


def test_a_second_ctrl_c_ends_at_once_and_one_that_torchrun_repeats_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    with pytest.raises(KeyboardInterrupt), first_interrupt(told) as pressed:
        assert not pressed.is_set()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            assert pressed.is_set() and told.is_set()
        monkeypatch.setattr(preemption, "AGAIN_S", 0.0)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
