"""The optimiser a recipe names, its two groups of parameters, and one update."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tips_bench.training.adafactor import Adafactor
from tips_bench.training.distributed import whole
from tips_bench.training.recipe import AdamWPart, OptimizerPart

DECAYED, SPARED = "decayed", "spared"


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay acts on a parameter: on matrices, never on norms, biases, scales, tokens and positions."""
    return parameter.ndim >= 2 and name.endswith(("weight", "prototypes"))


def make_optimizer(model: nn.Module, part: OptimizerPart) -> Optimizer:
    """Over the parameters that are trained, in two groups named `DECAYED` and `SPARED`; rate and decay are set at every step."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for name, parameter in trained if decays(name, parameter) == wanted], "name": title}
        for title, wanted in ((DECAYED, True), (SPARED, False))
    ]
    rule = part.rule
    if isinstance(rule, AdamWPart):
        return AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, weight_decay=0.0, fused=True)
    return Adafactor(groups, lr=0.0, decay=rule.decay, clip=rule.clip, beta1=rule.beta1)


def set_rates(optimizer: Optimizer, learning_rate: float, weight_decay: float) -> None:
    """For the next update."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        group["weight_decay"] = weight_decay if group["name"] == DECAYED else 0.0


def clip_gradients(model: nn.Module, clip_norm: float | None) -> Tensor:
    """Scales all gradients together so that their norm is at most `clip_norm`; gives the norm they had."""
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm([grad for parameter in trained if (grad := parameter.grad) is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(trained, clip_norm, norm)
    return whole(norm)
