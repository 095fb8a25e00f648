"""Training over ranks: what they exchange, and how a model is spread over them.

    torchrun --nproc-per-node 8 -m tips_bench train RECIPE

Every rank takes the loss of its own images; gradients are averaged over ranks. So a sum over all images is a mean of the ranks' means,
and what one rank's loss takes from another's images reaches that rank's gradients through `gather`.

Axes in tensor names: B images of this rank, N images of all ranks, D feature.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from tips_bench.errors import UserError
from tips_bench.heartbeat import RankLeft, is_of_a_collective
from tips_bench.ranks import World
from tips_bench.training.recipe import RunningPart

# PyTorch 2.13 gave these two new names and warns at the old ones.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


def add_up(tensor: Tensor) -> Tensor:
    """The sum over ranks, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather(x_BD: Tensor) -> tuple[Tensor, int]:
    """[N,D] of all ranks in their order, and the row of this rank's first. Gradients go back to the rank each row is from."""
    if not dist.is_initialized():
        return x_BD, 0
    return cast("Tensor", _Gather.apply(x_BD)), dist.get_rank() * len(x_BD)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        out_ND = x_BD.new_empty(dist.get_world_size() * len(x_BD), *x_BD.shape[1:])
        _all_gather(out_ND, x_BD.contiguous())
        return out_ND

    @staticmethod
    def backward(ctx: Any, *grads_ND: Tensor) -> Tensor:
        (grad_ND,) = grads_ND
        grad_BD = grad_ND.new_empty(len(grad_ND) // dist.get_world_size(), *grad_ND.shape[1:])
        _reduce_scatter(grad_BD, grad_ND.contiguous())
        return grad_BD


def spread(model: nn.Module, blocks: Iterable[nn.Module], world: World, running: RunningPart, *, unused: bool) -> nn.Module:
    """The model as all ranks train it together: copied ("ddp"), or its parameters cut up and put together block by block ("fsdp", "hsdp").

    In "bf16" the blocks' parameters are sent in bfloat16, except on a CPU; what is learned stays float32.
    unused: some steps leave parameters out.
    """
    if world.size == 1:
        return model
    if running.parallel == "ddp":
        devices = [world.device.index] if world.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=unused)
    return cut_up(model, blocks, world, running, keep_whole=True)


def cut_up(model: nn.Module, blocks: Iterable[nn.Module], world: World, running: RunningPart, *, keep_whole: bool) -> nn.Module:
    """FSDP2, in place. keep_whole: what is not in a block stays put together from its forward to its backward pass."""
    mesh = _mesh(world, running)
    # The residual stream stays float32: inputs are not cast, autocast does that for each operation. On a CPU it leaves layer_norm as it is,
    # which takes no bfloat16 weights beside a float32 input there; so parameters are sent as they are.
    sent = torch.bfloat16 if running.precision == "bf16" and world.device.type != "cpu" else None
    policy = MixedPrecisionPolicy(param_dtype=sent, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), reshard_after_forward=not keep_whole)
    return model


def _mesh(world: World, running: RunningPart) -> DeviceMesh:
    """The ranks as FSDP2 sees them: all in a row, or ("hsdp") in rows that each hold the whole model together.

    Errors: ranks that make no whole rows.
    """
    # Without a mesh it would take a GPU that is there, whatever the run computes on.
    if running.parallel == "fsdp":
        return init_device_mesh(world.device.type, (world.size,))
    size = ranks_of_a_copy(running, world.size, machine=int(os.environ.get("LOCAL_WORLD_SIZE", world.size)))
    return init_device_mesh(world.device.type, (world.size // size, size), mesh_dim_names=("replicate", "shard"))


def ranks_of_a_copy(running: RunningPart, ranks: int, *, machine: int) -> int:
    """How many of `ranks` hold the parameters together, each a part of them. machine: ranks of one machine.

    Errors: ranks that cannot be divided into such groups.
    """
    size = {"ddp": 1, "fsdp": ranks, "hsdp": running.shard_ranks or min(machine, ranks)}[running.parallel]
    if ranks % size:
        problem = f"{ranks} ranks cannot be divided into groups of {size}"
        raise UserError(problem, where="running.shard_ranks", fix="Use a divisor of the number of ranks, or parallel=fsdp.")
    return size


def sync_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass sends gradients to the other ranks, or adds to this rank's own."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = wanted
    elif isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts on all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def raise_if_ranks_left(error: RuntimeError) -> None:
    """A sentence in place of what a collective raises when a rank that takes part in it has ended."""
    if is_of_a_collective(error):
        first = " ".join(str(error).split())[:200]
        fix = "Look at what that rank says. `torchrun --max-restarts 3 ... --resume` starts all of them anew by itself."
        raise RankLeft(f"another rank has ended, or cannot be reached: {first}", where="torchrun", fix=fix) from error
