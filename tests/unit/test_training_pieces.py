"""Pieces of a batch: texts of like length together, and a forward and a backward pass that wait for no device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.no_waiting import NoWaiting
from tests.helpers.pretraining import ALONE, random_batch, recipe
from tips_bench.training.batches import send
from tips_bench.training.pieces import make_piece
from tips_bench.training.step import Learner

CPU = torch.device("cpu")


@pytest.mark.parametrize("waits", [lambda x: x.item(), lambda x: bool(x[0] > 0), lambda x: x[x > 0], lambda x: x.nonzero(), torch.unique])
def test_the_guard_sees_what_waits(waits: Any) -> None:
    with NoWaiting(), pytest.raises(AssertionError, match="waits"):
        waits(torch.rand(1))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method__teacher": {"kind": "ema", "momentum": [0.9, 1.0]}, "method__patches__patches": "masked"},
        {"model__positions": "window", "model__vision__position_grid": [6, 6], "running": {"activation_checkpointing": True}},
    ],
)
def test_a_forward_and_a_backward_pass_wait_for_no_device(changes: dict[str, Any]) -> None:
    chosen = recipe(**changes)
    learner = Learner(chosen, ALONE)
    table = 6 if chosen.model.positions == "window" else 0
    piece = make_piece(random_batch(shortest=3, table=table), slice(0, 8), 3, CPU)
    with NoWaiting():
        out = learner.student(piece, learner._lesson(piece, 0))
        (out["image_KBD"].sum() + out["text_KBD"].sum() + out["patches"] + out["self_distillation"]).backward()


def test_groups_have_texts_of_like_length_and_find_their_order_again() -> None:
    batch = random_batch(8, shortest=1)
    texts = make_piece(batch, slice(0, 6), 4, CPU).texts
    assert texts is not None and texts.tokens == 2
    # of 1 to 7 tokens, rounded up to a multiple of four but not beyond the longest there is
    assert [part.ids_BL.shape[1] for part in texts.groups] == [7, 7, 4, 4]
    ids = torch.cat([torch.nn.functional.pad(part.ids_BL, (0, 7 - part.ids_BL.shape[1])) for part in texts.groups])[texts.order_T]
    assert torch.equal(ids, torch.cat([part.ids_BL[:6] for part in batch.texts]))


@pytest.mark.parametrize(("here", "there", "pinned"), [("cpu", "cuda", True), ("cuda", "cuda", False), ("cpu", "cpu", False)])
def test_what_is_sent_to_a_gpu_is_pinned_so_that_nothing_waits_for_the_copy(here: str, there: str, pinned: bool) -> None:
    calls: list[object] = []

    class Recorded:
        """A tensor of a machine with a GPU."""

        device = torch.device(here)

        def pin_memory(self) -> Recorded:
            calls.append("pinned")
            return self

        def to(self, device: torch.device, *, non_blocking: bool) -> None:
            calls.append((device.type, non_blocking))

    send(Recorded(), torch.device(there))  # type: ignore[arg-type]
    assert calls == [*(["pinned"] if pinned else []), (there, True)]
