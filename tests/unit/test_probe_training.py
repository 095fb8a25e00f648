"""The loop that trains heads: an error in a process that makes batches reaches the user as it was raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.probes.trained.loop import Training


class Broken(Dataset):
    """Its third batch cannot be made."""

    def __getitem__(self, iteration: int) -> tuple[Tensor, Tensor]:
        if iteration == 2:
            raise UserError("the image is truncated", where="photo.jpg", fix="Fetch it again.")
        return torch.full((2,), float(iteration)), torch.zeros(2)


class Summing:
    """Learns the sum of its batches."""

    def __init__(self) -> None:
        self.seen = torch.zeros(())

    def step(self, iteration: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen += batch[0].sum()
        return self.seen[None]

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_in_one_sentence(tmp_path: Path, workers: int) -> None:
    trainee = Summing()
    with pytest.raises(UserError) as raised:
        Training(4, 10, Broken(), tmp_path / "probe.pt", "identity", load_encoder("pixels", device="cpu"), workers).run(trainee)
    assert str(raised.value) == "photo.jpg: the image is truncated. Fetch it again."
    assert (raised.value.where, raised.value.fix) == ("photo.jpg", "Fetch it again.") and trainee.seen == 2
