"""Adafactor (Shazeer and Stern, arXiv 1804.04235) without its scaling by the size of the parameters.

torch.optim.Adafactor multiplies every step by the root mean square of the parameter and caps the rate by 1/sqrt(step); a recipe's
learning rate is meant as it stands, and momentum (kept in bfloat16, as Zhai et al. have it, arXiv 2106.04560) is left to the recipe.

All parameters are updated together, each rank its own part: of parameters that are cut up over ranks, two all-reduces a step carry the
sums of all columns and the sizes of all updates.

Axes in tensor names: R rows, C columns of a matrix; tensors of more axes are matrices of their last two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer

from tips_bench.training.distributed import local

# Section 6 of the paper: added to the squared gradient.
_EPS = 1e-30
# Zhai et al., section 3.4: a cap on the decay, for long runs.
_MAX_BETA2 = 0.999
CAST_AT_ONCE = 2**24
"""Values that are held in bfloat16 beside the momentum at a time."""


class Adafactor(Optimizer):
    """decay: exponent of the second moment's decay, beta2 = 1 - step ** decay. clip: largest root mean square of an update.

    beta1: of the momentum, None for none. Weight decay is decoupled, as in AdamW.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        decay: float,
        clip: float,
        beta1: float | None,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "clip": clip, "beta1": beta1, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: nothing here evaluates twice
        """One update of every parameter that has a gradient. Gradients become the updates, so that no memory is needed beside them."""
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        states = [self.state[parameter] or self._begin(parameter, group["beta1"]) for parameter in parameters]
        torch._foreach_add_([state["step"] for state in states], 1)
        beta2s = [min(1 - float(state["step"]) ** group["decay"], _MAX_BETA2) for state in states]
        updates = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        _scale_matrices(*_those(parameters, updates, states, beta2s, matrices=True))
        _scale_vectors(*_those(parameters, updates, states, beta2s, matrices=False))
        _limit(parameters, updates, group["clip"])
        if group["beta1"] is not None:
            _smooth(updates, [local(state["momentum"]) for state in states], group["beta1"])
        values = [local(parameter) for parameter in parameters]
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(values, updates, alpha=-group["lr"])

    def _begin(self, parameter: Tensor, beta1: float | None) -> dict[str, Any]:
        state = self.state[parameter]
        state["step"] = torch.zeros(())
        if parameter.ndim < 2:
            state["second"] = torch.zeros_like(parameter)
        else:
            # A matrix is cut up along its rows; of a tensor of more axes, a rank has whole matrices.
            columns = torch.zeros_like(parameter).sum(dim=-2)
            state["rows"] = torch.zeros_like(parameter).sum(dim=-1)
            state["columns"] = _replicated(columns) if parameter.ndim == 2 else columns
        if beta1 is not None:
            state["momentum"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
        return state


def _those(
    parameters: list[Tensor], updates: list[Tensor], states: list[dict[str, Any]], beta2s: list[float], *, matrices: bool
) -> tuple[list[Tensor], list[Tensor], list[dict[str, Any]], list[float]]:
    """Of the parameters that are matrices, or of the others."""
    wanted = [index for index, parameter in enumerate(parameters) if (parameter.ndim >= 2) == matrices]
    return (
        [parameters[index] for index in wanted],
        [updates[index] for index in wanted],
        [states[index] for index in wanted],
        [beta2s[index] for index in wanted],
    )


def _scale_matrices(parameters: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], beta2s: list[float]) -> None:
    """Gradients over the root of the second moment, which is the product of the means of row and column; in place."""
    if not parameters:
        return
    rows, columns = [local(state["rows"]) for state in states], [local(state["columns"]) for state in states]
    found_rows, found_columns = ([torch.linalg.vector_norm(grad, dim=axis) for grad in grads] for axis in (-1, -2))
    for found in (found_rows, found_columns):
        torch._foreach_mul_(found, found)
    cut = [index for index, parameter in enumerate(parameters) if parameter.ndim == 2]
    _add_up([parameters[index] for index in cut], [found_columns[index] for index in cut])
    for means, found, axis in ((rows, found_rows, -1), (columns, found_columns, -2)):
        torch._foreach_div_(found, [float(parameter.shape[axis]) for parameter in parameters])
        torch._foreach_add_(found, _EPS)
        _follow(means, found, beta2s)
    # the mean over rows of rows' means is that over columns of columns' means, which every rank has whole
    overall = [column.mean(dim=-1, keepdim=True) for column in columns]
    for factors, axis in ((torch._foreach_div(rows, overall), -1), (columns, -2)):
        torch._foreach_mul_(grads, [factor.unsqueeze(axis) for factor in torch._foreach_rsqrt(factors)])


def _scale_vectors(parameters: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], beta2s: list[float]) -> None:
    """Gradients over the root of the second moment of each value; in place."""
    if not parameters:
        return
    seconds, squared = [local(state["second"]) for state in states], list(torch._foreach_mul(grads, grads))
    torch._foreach_add_(squared, _EPS)
    _follow(seconds, squared, beta2s)
    torch._foreach_mul_(grads, torch._foreach_rsqrt(seconds))


def _follow(means: list[Tensor], found: list[Tensor], beta2s: list[float]) -> None:
    """Running means take in what a step found; in place, and `found` is used up."""
    torch._foreach_mul_(means, beta2s)
    torch._foreach_mul_(found, [1 - beta2 for beta2 in beta2s])
    torch._foreach_add_(means, found)


def _limit(parameters: list[Tensor], updates: list[Tensor], clip: float) -> None:
    """Updates whose root mean square is larger than `clip` are scaled to it; in place."""
    sizes = list(torch._foreach_norm(updates))
    torch._foreach_mul_(sizes, sizes)
    _add_up(parameters, sizes)
    torch._foreach_div_(sizes, [parameter.numel() * clip**2 for parameter in parameters])
    torch._foreach_sqrt_(sizes)
    torch._foreach_clamp_min_(sizes, 1.0)
    torch._foreach_div_(updates, sizes)


def _smooth(updates: list[Tensor], momentums: list[Tensor], beta1: float) -> None:
    """Momentum in bfloat16 takes in the updates and takes their place; in place."""
    for here in _runs(updates, CAST_AT_ONCE):
        torch._foreach_lerp_(momentums[here], [update.to(torch.bfloat16) for update in updates[here]], 1 - beta1)
        torch._foreach_copy_(updates[here], momentums[here])


def _runs(tensors: Sequence[Tensor], values: int) -> Iterator[slice]:
    """Neighbours that hold at most so many values together, or one that holds more."""
    start, held = 0, 0
    for index, tensor in enumerate(tensors):
        if index > start and held + tensor.numel() > values:
            yield slice(start, index)
            start, held = index, 0
        held += tensor.numel()
    yield slice(start, len(tensors))


def _add_up(parameters: list[Tensor], parts: list[Tensor]) -> None:
    """Sums over the ranks that hold different rows of a parameter, of one tensor for each; in place, with one all-reduce for all."""
    groups: dict[tuple[Any, int, torch.dtype], list[Tensor]] = {}
    for parameter, part in zip(parameters, parts, strict=True):
        if isinstance(parameter, DTensor):
            for axis, placement in enumerate(parameter.placements):
                if placement.is_shard():
                    if not placement.is_shard(0):
                        raise ValueError("parameters are cut up along their first axis alone")
                    groups.setdefault((parameter.device_mesh, axis, part.dtype), []).append(part)
    for (mesh, axis, _), members in groups.items():
        flat = torch.cat([part.reshape(-1) for part in members])
        dist.all_reduce(flat, group=mesh.get_group(axis))
        torch._foreach_copy_(
            members, [new.view_as(part) for new, part in zip(flat.split([p.numel() for p in members]), members, strict=True)]
        )


def _replicated(tensor: Tensor) -> Tensor:
    """Whole on every rank, where a parameter is cut up over them."""
    return tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim) if isinstance(tensor, DTensor) else tensor
