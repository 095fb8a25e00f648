"""The optimiser a recipe names, its groups of parameters, and one update."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tips_bench.training.adafactor import Adafactor
from tips_bench.training.distributed import whole
from tips_bench.training.muon import Muon
from tips_bench.training.recipe import AdamWPart, MuonPart, OptimizerPart

MATRICES, DECAYED, SPARED = "matrices", "decayed", "spared"
_PARTS = {"qkv.weight": 3, "w12.weight": 2}
"""Maps that are computed together: queries, keys and values; gate and up."""


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: on matrices, never on norms, biases, scales, tokens and positions."""
    return parameter.ndim >= 2 and name.endswith(("weight", "prototypes"))


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether it is a matrix of a block, which Muon is for; embeddings, heads, norms and biases are not."""
    return parameter.ndim == 2 and ".blocks." in name


def make_optimizer(model: nn.Module, part: OptimizerPart) -> Optimizer:
    """Over the parameters that are trained, in groups named `DECAYED` and `SPARED`, and `MATRICES` with Muon.

    Rate and decay are set at every step.
    """
    rule = part.rule
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    hidden = {name: parameter for name, parameter in trained.items() if isinstance(rule, MuonPart) and is_hidden(name, parameter)}
    groups: list[dict[str, Any]] = [
        {"params": [one for name, one in trained.items() if name not in hidden and decays(name, one) == wanted], "name": title}
        for title, wanted in ((DECAYED, True), (SPARED, False))
    ]
    if isinstance(rule, MuonPart):
        parts = [next((count for end, count in _PARTS.items() if name.endswith(end)), 1) for name in hidden]
        matrices = {"params": list(hidden.values()), "name": MATRICES, "parts": parts}
        return Muon(matrices, groups, lr=0.0, momentum=rule.momentum, betas=rule.betas, eps=rule.eps)
    if isinstance(rule, AdamWPart):
        return AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, weight_decay=0.0, fused=True)
    return Adafactor(groups, lr=0.0, decay=rule.decay, clip=rule.clip, beta1=rule.beta1)


def set_rates(optimizer: Optimizer, learning_rate: float, weight_decay: float) -> None:
    """For the next update."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = 0.0 if group["name"] == SPARED else weight_decay


def clip_gradients(model: nn.Module, clip_norm: float | None) -> Tensor:
    """Scales all gradients together so that their norm is at most `clip_norm`; gives the norm they had."""
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([grad for parameter in trained if (grad := parameter.grad) is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return whole(norm)
