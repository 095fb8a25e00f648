"""Checkpoints written beside the training: the next step waits while tensors are copied, and for nothing else.

All ranks write together in a thread of each. What they tell one another there goes over gloo, in a group of its own, so that it never
meets what the steps send meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from tips_bench.ranks import World
from tips_bench.training import checkpoint
from tips_bench.training.checkpoint import State


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time.

    keep: how many whole ones stay. then: called with the step on the first rank once a checkpoint is whole, in the thread that wrote it.
    """

    def __init__(self, run: Path, world: World, keep: int, then: Callable[[int], None]) -> None:
        self.run, self.world, self.keep, self.then = run, world, keep, then
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        on_gpu = world.device.type == "cuda"
        # The copy is made anew in the same memory each time; on a GPU in memory that it reaches by itself.
        options = StagingOptions(use_pinned_memory=on_gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=on_gpu)
        self._stager = DefaultStager(options)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[State] | None = None

    def begin(self, tensors: Mapping[str, Tensor], step: int, place: dict[str, Any], sound: int) -> None:
        """Copies the tensors and starts to write them. Every rank calls it, after `take(wait=True)`.

        place: of this rank in the data. sound: see `checkpoint.save`.
        """
        copied = cast("dict[str, Tensor]", self._stager.stage(dict(tensors)))
        self._written = self._thread.submit(self._write, copied, step, place, sound)

    def take(self, *, wait: bool = False) -> State | None:
        """The checkpoint that has become whole since the last call, or None. wait: for the one that is being written.

        Errors: those of `checkpoint.save`.
        """
        if self._written is None or not (wait or self._written.done()):
            return None
        written, self._written = self._written, None
        return written.result()

    def close(self) -> None:
        """Lets go of the thread, when it has written what it is at."""
        self._thread.shutdown(wait=self.world.size == 1)  # of several ranks one that fails must not wait for the others
        self._stager.close()

    def _write(self, tensors: dict[str, Tensor], step: int, place: dict[str, Any], sound: int) -> State:
        state = checkpoint.save(self.run, self.world, tensors, step, place, keep=self.keep, sound=sound, group=self._group)
        if self.world.is_first:
            self.then(step)
        return state
