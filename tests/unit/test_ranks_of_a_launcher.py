"""What a launcher says of ranks in the environment."""

from __future__ import annotations

import pytest
import torch

from tips_bench.errors import UserError
from tips_bench.ranks import enter


@pytest.mark.parametrize(("rank", "size"), [("x", "2"), ("0", "0"), ("5", "2"), ("-1", "2"), ("0", "1.5"), ("0", "9" * 30), ("", "1")])
def test_ranks_that_no_launcher_sets_are_a_sentence(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="Start ranks with torchrun, or remove RANK and WORLD_SIZE"):
        enter(torch.device("cpu"))


def test_one_rank_alone_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = enter(torch.device("cpu"))
    assert (world.rank, world.size) == (0, 1)
