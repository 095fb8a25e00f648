"""Adafactor (Shazeer and Stern, arXiv 1804.04235) without its scaling by the size of the parameters.

torch.optim.Adafactor multiplies every step by the root mean square of the parameter and caps the rate by 1/sqrt(step); a recipe's
learning rate is meant as it stands, and momentum (kept in bfloat16, as Zhai et al. have it, arXiv 2106.04560) is left to the recipe.

Axes in tensor names: R rows, C columns of a matrix; tensors of more axes are matrices of their last two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer

# Section 6 of the paper: added to the squared gradient.
_EPS = 1e-30
# Zhai et al., section 3.4: a cap on the decay, for long runs.
_MAX_BETA2 = 0.999


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
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, self.state[parameter], group)

    def _update(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state |= _new_state(parameter, group["beta1"])
        state["step"] += 1
        beta2 = min(1 - float(state["step"]) ** group["decay"], _MAX_BETA2)
        update = _like(_scaled(grad, state, beta2), parameter)
        update = update / (_root_mean_square(update) / group["clip"]).clamp(min=1.0)
        if group["beta1"] is not None:
            state["momentum"].lerp_(update.to(torch.bfloat16), 1 - group["beta1"])
            update = state["momentum"].to(parameter.dtype)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"])


def _new_state(parameter: Tensor, beta1: float | None) -> dict[str, Any]:
    state: dict[str, Any] = {"step": torch.zeros(())}
    if parameter.ndim < 2:
        state["second"] = torch.zeros_like(parameter)
    else:
        state |= {
            "rows": _replicated(torch.zeros_like(parameter).sum(dim=-1)),
            "columns": _replicated(torch.zeros_like(parameter).sum(dim=-2)),
        }
    if beta1 is not None:
        state["momentum"] = torch.zeros_like(parameter, dtype=torch.bfloat16)
    return state


def _scaled(grad: Tensor, state: dict[str, Any], beta2: float) -> Tensor:
    """The gradient over the root of the second moment: of each value, or of the product of its row's and its column's means."""
    squared = grad.square() + _EPS
    if "second" in state:
        return grad * state["second"].lerp_(squared, 1 - beta2).rsqrt()
    state["rows"].lerp_(_replicated(squared.sum(dim=-1) / squared.shape[-1]), 1 - beta2)
    state["columns"].lerp_(_replicated(squared.sum(dim=-2) / squared.shape[-2]), 1 - beta2)
    rows = state["rows"] / state["rows"].mean(dim=-1, keepdim=True)
    # one after the other, so that no rank makes the whole matrix
    return grad * rows.rsqrt().unsqueeze(-1) * state["columns"].rsqrt().unsqueeze(-2)


def _root_mean_square(tensor: Tensor) -> Tensor:
    return _replicated((tensor.square().sum() / tensor.numel()).sqrt())


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Cut up as a parameter is."""
    return cast(DTensor, tensor).redistribute(placements=parameter.placements) if isinstance(parameter, DTensor) else tensor


def _replicated(tensor: Tensor) -> Tensor:
    """Whole on every rank, where a parameter is cut up over them."""
    return tensor.redistribute(placements=[Replicate()] * tensor.device_mesh.ndim) if isinstance(tensor, DTensor) else tensor
