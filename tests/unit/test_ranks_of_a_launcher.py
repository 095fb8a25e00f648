"""What a launcher says of ranks in the environment."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch

from tests.helpers.torchrun import free_port
from tips_bench import ranks
from tips_bench.errors import UserError
from tips_bench.ranks import enter


@pytest.mark.parametrize(("rank", "size"), [("x", "2"), ("0", "0"), ("5", "2"), ("-1", "2"), ("0", "1.5"), ("0", "9" * 30), ("", "1")])
def test_ranks_that_no_launcher_sets_are_a_sentence(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="Start ranks with torchrun, or remove RANK and WORLD_SIZE"):
        enter(torch.device("cpu"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_waits_a_limited_time_for_one_that_does_not_come(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "_MEETING", timedelta(seconds=0.6))
    with pytest.raises(UserError, match=r"torchrun: the 2 ranks did not meet within 0\.01 minutes: .* See what the ranks that are missing"):
        enter(torch.device("cpu"))


def test_one_rank_alone_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = enter(torch.device("cpu"))
    assert (world.rank, world.size) == (0, 1)
