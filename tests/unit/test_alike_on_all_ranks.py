"""What depends on the disk is told by rank 0, so that ranks which see another disk, or the same one later, go the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from tests.helpers.rank_threads import by_ranks
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.fitting import fitted
from tips_bench.probes.base import Fit
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.trained.loop import Training
from tips_bench.ranks import ALONE, World


class Linear:
    reads_train = True
    load = staticmethod(LinearHead.load)

    def fit(self, *_: Any) -> Fit:
        raise NotImplementedError


def head(value: float) -> Callable[[], Fit]:
    return lambda: Fit(LinearHead(torch.full((2, 3), value), torch.zeros(2)), {"value": value})


def test_a_fit_that_rank_0_finds_is_that_of_all(tmp_path: Path) -> None:
    kept, empty = tmp_path / "kept", tmp_path / "empty"
    fitted(Linear(), [kept], head(1.0), ALONE)
    found = by_ranks(3, lambda world: fitted(Linear(), [empty if world.rank else kept], head(2.0), world))
    assert [fit.report["value"] for fit in found] == [1.0] * 3
    found = by_ranks(3, lambda world: fitted(Linear(), [kept if world.rank else empty], head(2.0), world))
    assert [fit.report["value"] for fit in found] == [2.0] * 3 and np.all([fit.head.weight_CD.numpy() for fit in found] == np.float32(2))
    assert (empty / "fit.json").is_file(), "kept by rank 0"


class Numbers(Dataset):
    def __getitem__(self, number: int) -> int:
        return number


class Counter:
    """Learns nothing, and remembers which batches it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def step(self, iteration: int, batch: int) -> torch.Tensor:
        self.seen.append(batch)
        return torch.zeros(1)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


def test_a_training_goes_on_on_all_ranks_or_begins_on_all(tmp_path: Path) -> None:
    def train(path: Path, world: World, iterations: int) -> list[int]:
        trainee = Counter()
        Training(iterations, 3, Numbers(), path, "this one", load_encoder("pixels", device="cpu"), 0, world).run(trainee)
        return trainee.seen

    there, absent = tmp_path / "there.pt", tmp_path / "absent.pt"
    assert train(there, ALONE, 5) == [0, 1, 2, 3, 4] and there.is_file()
    assert by_ranks(2, lambda world: train(there, world, 5)) == [[3, 4]] * 2
    assert by_ranks(2, lambda world: train(there if world.rank else absent, world, 3)) == [[0, 1, 2]] * 2
    with pytest.raises(UserError, match="not a checkpoint of a probe"):
        by_ranks(2, lambda world: train(absent if world.rank else there, world, 5))


def test_what_rank_0_cannot_tell_is_an_error_on_all() -> None:
    def failing(world: World) -> str:
        def find() -> str:
            raise UserError("the disk is gone", where="disk")

        with pytest.raises(UserError, match="the disk is gone"):
            world.told(find)
        return world.told(lambda: f"rank {world.rank}")

    assert by_ranks(3, failing) == ["rank 0"] * 3
