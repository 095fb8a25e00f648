"""Checkpoints of a run: whole or not there, written by all ranks together, read by any number of them.

    RUN/checkpoints/step-00001000/*.safetensors    every tensor, a file for each rank (torch.distributed.checkpoint)
    RUN/checkpoints/step-00001000/state.json       the step, and the place of every rank in the data

A checkpoint is written beside its place and renamed into it, so that a run killed meanwhile has the one before. Tensors are kept in
safetensors, not in the pickles that torch.distributed.checkpoint writes by default: a run may come from someone else. Training waits for
none of this: `checkpoint_writer` calls `save` in a thread, with a copy of the tensors.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from tips_bench.errors import UserError
from tips_bench.files import cannot_write
from tips_bench.ranks import World

FOLDER = "checkpoints"
STATE_FILE = "state.json"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class State:
    """What is no tensor. step: how many are done. data: the place in the data, of each rank."""

    step: int
    data: list[dict[str, Any]]


def tensors_of(student: nn.Module, teacher: nn.Module | None, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything a run has learned, by name; the tensors themselves, so that `load` fills them."""
    named = {f"student.{name}": tensor for name, tensor in student.state_dict().items()}
    if teacher is not None:
        named |= {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}
    for name, parameter in student.named_parameters():
        named |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    return named


@torch.no_grad()
def allocate(optimizer: Optimizer) -> None:
    """Gives an optimiser that has not stepped yet the tensors that `load` is to fill."""
    for group in optimizer.param_groups:
        group["lr"] = group["weight_decay"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def save(
    run: Path,
    world: World,
    tensors: Mapping[str, Tensor],
    step: int,
    place: dict[str, Any],
    *,
    keep: int,
    sound: int,
    group: dist.ProcessGroup | None = None,
) -> State:
    """Writes a checkpoint, and lets go of old ones. Every rank calls it. Errors: a disk that takes no more.

    place: of this rank in the data. keep, sound: the newest `keep` stay and, of a run that may be diverging, the newest one of step
    `sound` or before. group: of all ranks, apart from the one that they train in; None where there is one rank.
    """
    final = folder_at(run, step)
    temporary = final.with_name(f".{final.name}.tmp")
    places = [place]
    try:
        if world.is_first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        if group is not None:
            places = [{} for _ in range(world.size)]
            dist.all_gather_object(places, place, group=group)  # the folder is there once all have come to this
        state = State(step, places)
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        dcp.save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)
        if world.is_first:
            (temporary / STATE_FILE).write_text(json.dumps({"step": step, "data": places}), encoding="utf-8")
            _flush(temporary)
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            for old in _surplus(whole_ones(run), keep, sound):
                shutil.rmtree(old)
    except OSError as error:
        raise cannot_write(final, error) from error
    except CheckpointException as error:
        _raise_if_interrupted(error)
        raise UserError(f"cannot write: {_first_cause(error)}", where=final, fix="Free space there or choose another folder.") from error
    return state


def _surplus(whole: list[Path], keep: int, sound: int) -> list[Path]:
    """Those that go, of whole ones that stand from the oldest to the newest; see `save`."""
    before = [path for path in whole if (step_of(path) or 0) <= sound]
    return [path for path in whole[:-keep] if path not in before[-1:]]


def remove_unfinished(run: Path) -> None:
    """Lets go of what runs that were killed had begun to write."""
    for left in (run / FOLDER).glob(".step-*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def whole_ones(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(path for path in (run / FOLDER).glob("step-*") if step_of(path) is not None and (path / STATE_FILE).is_file())


def folder_at(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return run / FOLDER / f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """The step that a folder is named for, None where it has another name."""
    found = _NAME.fullmatch(folder.name)
    return int(found[1]) if found else None


def newest(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, None where there is none."""
    found = whole_ones(run)
    return found[-1] if found else None


def load(folder: Path, tensors: Mapping[str, Tensor], *, together: bool) -> State:
    """Fills tensors from a checkpoint, which may hold more, and gives the rest of it.

    together: all ranks call this, each with its own part of the tensors; otherwise one reads whole tensors and waits for no other.
    Errors: tensors it lacks or has in another shape.
    """
    state = read_state(folder)
    alone = not together or not dist.is_initialized()
    try:
        with alone_on_purpose(), _without_tracebacks():
            dcp.load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)
    except (CheckpointException, RuntimeError, ValueError, OSError) as error:
        _raise_if_interrupted(error)
        fix = "Use the recipe this run was started with; remove the checkpoint if it is damaged: --resume then begins before it."
        raise UserError(f"it does not fit the recipe or is damaged: {_first_cause(error)}", where=folder, fix=fix) from error
    return state


def load_newest(folders: Sequence[Path], tensors: Mapping[str, Tensor]) -> tuple[State, dict[Path, str]]:
    """Fills tensors from the last of the checkpoints that can be read, and why those behind it cannot. folders: at least one.

    Every rank calls it. Errors: that of the last one, where none can be read.
    """
    first: UserError | None = None
    faults: dict[Path, str] = {}
    for folder in reversed(folders):
        try:
            return load(folder, tensors, together=True), faults
        except UserError as error:
            first, faults[folder] = first or error, error.problem
    assert first is not None, "there is a checkpoint"
    raise first


def put_aside(folder: Path) -> Path:
    """Gives a checkpoint that cannot be read a name that no checkpoint has, so that no sound one goes in its favor; where it is then."""
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def newest_state(run: Path) -> State | None:
    """What is no tensor in the newest checkpoint where it can be read; None without one. Errors: all are damaged."""
    whole = whole_ones(run)
    for folder in reversed(whole):
        with suppress(UserError):
            return read_state(folder)
    return read_state(whole[-1]) if whole else None


def read_state(folder: Path) -> State:
    """What is no tensor in a checkpoint. Errors: a file that is not what `save` writes."""
    path = folder / STATE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return State(int(values["step"]), list(values["data"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"this is not the state of a checkpoint: {error}", where=path, fix="Remove that checkpoint.") from error


def _flush(folder: Path) -> None:
    """Everything in a folder is on the disk before the folder gets its name."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def alone_on_purpose() -> Iterator[None]:
    """Without the warning that there are no other ranks; for `save`, around the thread that calls it too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """While torch reads a checkpoint: what it logs of a damaged one is said by the error, too."""
    log = logging.getLogger()

    def is_told(record: logging.LogRecord) -> bool:
        return record.module != "state_dict_loader"

    log.addFilter(is_told)
    try:
        yield
    finally:
        log.removeFilter(is_told)


def _raise_if_interrupted(error: BaseException) -> None:
    """A Ctrl-C on any rank is wrapped up with what the others raise."""
    if isinstance(error, CheckpointException) and any(isinstance(cause, KeyboardInterrupt) for cause, _ in error.failures.values()):
        raise KeyboardInterrupt from error


def _first_cause(error: BaseException) -> str:
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())[:300]
