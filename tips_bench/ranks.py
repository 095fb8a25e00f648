"""Ranks: the processes that torchrun starts for one evaluation or one training, and how they meet.

    torchrun --nproc-per-node 8 -m tips_bench run --task ade20k --model tips-g14

Axes: B rows of this rank, N rows of all ranks, L lanes of this rank.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tips_bench import heartbeat
from tips_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Once they have met, ranks wait as long as rank 0 fits or draws by itself. One that is not there any more is found within minutes: see
# `heartbeat` and `training.watchdog`.
_PATIENCE = datetime.timedelta(days=1)
_MEETING = datetime.timedelta(minutes=10)  # torchrun starts all of them at about the same time
LANES = 8  # sums that are made apart and added in their order, so that up to so many ranks share the work and find the same bits as one
_LAUNCH = "Start ranks with torchrun, or remove RANK and WORLD_SIZE."
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Where this process stands. rank of `size`; device_name: of the device that it computes on."""

    rank: int
    size: int
    device_name: str

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        import torch

        return torch.device(self.device_name)

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes what there is once."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all ranks have: every `size`-th item, from its own number on."""
        return items[self.rank :: self.size]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            import torch.distributed as dist

            with heartbeat.meeting():
                dist.barrier()

    def gather(self, found: Any) -> list[Any]:
        """What each rank has found, in the order of the ranks, on every rank."""
        if self.size == 1:
            return [found]
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        with heartbeat.meeting():
            dist.all_gather_object(parts, found)
        return parts

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives: on rank 0 first and then on the others, which find what it left on the disk.

        Errors: the one of rank 0, on every rank.
        """
        made: list[T] = []
        error: UserError | None = None
        if self.is_first:
            try:
                made.append(make())
            except UserError as found:
                error = found
        error = self.gather(error)[0]
        if error is not None:
            raise error
        return made[0] if self.is_first else make()

    def told(self, find: Callable[[], T]) -> T:
        """What `find` gives on rank 0, on every rank: for what all have to answer alike, as whether a file is there.

        Errors: the one of rank 0, on every rank.
        """
        found: T | None = None
        error: UserError | None = None
        if self.is_first:
            try:
                found = find()
            except UserError as raised:
                error = raised
        error = self.gather(error)[0]  # no rank goes on before all have asked
        if error is not None:
            raise error
        return cast("T", self.object_from_first(found))

    def object_from_first(self, found: T) -> T:
        """What rank 0 has found, on every rank. It is sent once: `gather` makes room on each rank for an answer of every rank."""
        if self.size == 1:
            return found
        import torch.distributed as dist

        said = [found]
        with heartbeat.meeting():
            dist.broadcast_object_list(said, src=0)
        return said[0]

    def gather_rows(self, rows_BX: Tensor) -> Tensor:
        """rows_NX: the rows of all ranks, in the order of the ranks; their numbers may differ."""
        if self.size == 1:
            return rows_BX
        import torch
        import torch.distributed as dist

        own = torch.tensor(len(rows_BX), device=rows_BX.device)
        numbers = [torch.zeros_like(own) for _ in range(self.size)]
        with heartbeat.meeting():
            dist.all_gather(numbers, own)
        most = max(int(number) for number in numbers)
        padded_MX = rows_BX.new_zeros(most, *rows_BX.shape[1:])
        padded_MX[: len(rows_BX)] = rows_BX
        parts = [torch.empty_like(padded_MX) for _ in range(self.size)]
        with heartbeat.meeting():
            dist.all_gather(parts, padded_MX)
        return torch.cat([part_MX[: int(number)] for part_MX, number in zip(parts, numbers, strict=True)])

    def add_lanes(self, sums_LX: Tensor) -> Tensor:
        """The sum over all LANES lanes in their order, on every rank: the same bits for any number of ranks.

        sums_LX: of the lanes that are this rank's `share`.
        """
        lanes_NX = self.gather_rows(sums_LX)
        order = [lane for rank in range(self.size) for lane in range(LANES)[rank :: self.size]]
        total_X = lanes_NX.new_zeros(lanes_NX.shape[1:])
        for _, lane_X in sorted(zip(order, lanes_NX, strict=True), key=lambda pair: pair[0]):
            total_X += lane_X
        return total_X

    def from_first(self, tensor: Tensor) -> Tensor:
        """The numbers of rank 0, written into the tensor of every other rank."""
        if self.size > 1:
            import torch.distributed as dist

            with heartbeat.meeting():
                dist.broadcast(tensor, 0)
        return tensor


ALONE = World(0, 1, "cpu")


def enter(device: torch.device, *, watched: bool = True) -> World:
    """Join the ranks that torchrun started; a world of one without it. device: "cuda" without a number = a GPU of its own.

    watched: a rank that dies or freezes ends the others with a sentence (tips_bench.heartbeat).
    Errors: more ranks than GPUs on this machine; $RANK and $WORLD_SIZE that no launcher sets; a rank that does not come.
    """
    import torch
    import torch.distributed as dist

    size, rank = _whole_number("WORLD_SIZE", 1), _whole_number("RANK", 0)
    if rank >= size:
        raise UserError(f"RANK = {rank} of WORLD_SIZE = {size}", where="the environment", fix=_LAUNCH)
    if device.type == "cuda" and device.index is None:
        local, gpus = _whole_number("LOCAL_RANK", 0), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"rank {rank} finds {gpus} GPUs on this machine", where="torchrun", fix=f"Use --nproc-per-node {gpus}.")
        device = torch.device("cuda", local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size > 1 and not dist.is_initialized():
        _meet("nccl" if device.type == "cuda" else "gloo", size)
        if watched:
            heartbeat.start(rank, size)
    return World(rank, size, str(device))


def _meet(backend: str, size: int) -> None:
    """All ranks come together. Errors: one that does not come in time."""
    import torch.distributed as dist

    try:
        dist.init_process_group(backend, timeout=_MEETING)
    except RuntimeError as error:
        if not heartbeat.is_of_a_collective(error):
            raise
        first = " ".join(str(error).split())[:200]
        fix = "See what the ranks that are missing say, and whether their machines reach the address that torchrun was given."
        minutes = _MEETING.total_seconds() / 60
        raise UserError(f"the {size} ranks did not meet within {minutes:g} minutes: {first}", where="torchrun", fix=fix) from error
    dist.distributed_c10d._set_pg_timeout(_PATIENCE)
    dist.distributed_c10d._get_default_store().set_timeout(_PATIENCE)  # where NCCL meets, in the first collective


def _whole_number(variable: str, unset: int) -> int:
    """What a launcher says. Errors: no whole number from 0."""
    text = os.environ.get(variable, str(unset))
    if not text.isdecimal() or len(text) > 9:
        raise UserError(f"{variable} = {text[:50]!r} is not a whole number", where="the environment", fix=_LAUNCH)
    return int(text)


def leave() -> None:
    """Let go of the other ranks."""
    import torch.distributed as dist

    heartbeat.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def is_launched() -> bool:
    """Whether torchrun started this process, which ends the others when one fails."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def end(status: int = 0) -> None:
    """End a process that torchrun started, after all its files are written; does nothing in any other.

    With a status that is not 0, it has said why, and the ranks that torchrun ends because of it say nothing. The rest of Python's own
    ending is left out: gloo's threads may still wait for the interpreter then, which ends them in an abort.
    """
    if is_launched():
        if status:
            heartbeat.speak(lambda: None)
        else:
            heartbeat.close()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
