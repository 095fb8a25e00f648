"""Muon: momentum whose matrices are made nearly orthogonal (Jordan et al., kellerjordan.github.io/posts/muon), for the matrices of blocks.

The iteration and its numbers: KellerJordan/Muon 857d1ad, muon.py lines 5-42. The step is 0.2 sqrt(max(rows, columns)) times the rate, as in
"Muon is scalable for LLM training" (arXiv 2502.16982; MoonshotAI/Moonlight c2ad5b2, examples/toy_train.py line 146): the size that steps
of AdamW have, so a recipe's learning rate and weight decay are those of AdamW. All other parameters are updated by torch's AdamW.

torch.optim.Muon takes the same steps, on whole matrices alone. Here each rank of those that hold a matrix together makes a matrix whole in
its turn, and sends the parts of the result back; with "ddp" every rank does all.

Axes in tensor names: N matrices that one parameter is made of, R rows, C columns.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from tips_bench.training.distributed import local

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPS = 1e-7
_SIZE_OF_ADAMW = 0.2
"""Root mean square of a step of AdamW, at a rate of 1."""


class Muon(Optimizer):
    """matrices: a group of parameters of two axes, and "parts", of how many matrices, one below the other, each is made. others: groups for
    AdamW, with `betas` and `eps`. momentum: of the matrices. Weight decay is decoupled, as in AdamW.
    """

    def __init__(
        self, matrices: dict[str, Any], others: list[dict[str, Any]], *, lr: float, momentum: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__([matrices, *others], {"lr": lr, "weight_decay": 0.0})
        self.momentum = momentum
        # the groups and the state are the same objects
        self._others = AdamW(self.param_groups[1:], lr=lr, betas=betas, eps=eps, weight_decay=0.0, fused=True)
        self._others.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: nothing here evaluates twice
        """One update of every parameter that has a gradient. Gradients of matrices become the updates."""
        self._others.step()
        group = self.param_groups[0]
        ready = [(parameter, parts) for parameter, parts in zip(group["params"], group["parts"], strict=True) if parameter.grad is not None]
        if not ready:
            return
        for parameter, _ in ready:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        grads = [local(parameter.grad) for parameter, _ in ready]
        momentums = [local(self.state[parameter]["momentum"]) for parameter, _ in ready]
        torch._foreach_lerp_(momentums, grads, 1 - self.momentum)
        torch._foreach_lerp_(grads, momentums, self.momentum)  # Nesterov's
        ranks = _ranks_that_share(ready[0][0])
        turn = 1 if ranks is None else ranks.size()
        for start in range(0, len(ready), turn):
            here = ready[start : start + turn]
            updates = _whole_in_turn(here, ranks) if ranks is not None else [_orthogonal(grads[start], here[0][1])]
            for (parameter, parts), update in zip(here, updates, strict=True):
                rows, columns = parameter.shape
                size = _SIZE_OF_ADAMW * math.sqrt(max(rows // parts, columns))
                local(parameter).mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)


def _ranks_that_share(parameter: Tensor) -> dist.ProcessGroup | None:
    """Those that hold a parameter together, cut up along its rows; None where each holds all of it."""
    if isinstance(parameter, DTensor):
        for axis, placement in enumerate(parameter.placements):
            if placement.is_shard():
                return parameter.device_mesh.get_group(axis)
    return None


def _whole_in_turn(here: list[tuple[Tensor, int]], ranks: dist.ProcessGroup) -> list[Tensor]:
    """This rank's rows of the updates of at most as many parameters as there are ranks, each made by the rank of its number."""
    shards = [local(parameter.grad) for parameter, _ in here if parameter.grad is not None]
    absent = [0] * (ranks.size() - len(here))
    mine = [shard.numel() for shard in shards] + absent
    sent = torch.cat([shard.to(torch.bfloat16).flatten() for shard in shards])
    if ranks.rank() < len(here):
        parameter, parts = here[ranks.rank()]
        rows, columns = parameter.shape
        most = -(-rows // ranks.size())  # of a rank: FSDP cuts as torch.chunk does
        theirs = [columns * max(0, min(most, rows - rank * most)) for rank in range(ranks.size())]
    else:
        parts, columns, theirs = 1, 1, [0] * ranks.size()
    whole = sent.new_empty(sum(theirs))
    dist.all_to_all_single(whole, sent, theirs, mine, group=ranks)
    if len(whole):
        whole = _orthogonal(whole.view(-1, columns), parts).flatten()
    dist.all_to_all_single(sent, whole, mine, theirs, group=ranks)
    return [part.view_as(shard) for part, shard in zip(sent.split(mine), shards, strict=False)]


def _orthogonal(update_RC: Tensor, parts: int) -> Tensor:
    """[R,C] in bfloat16: each of its parts with all singular values between about 0.7 and 1.2, by Newton and Schulz's iteration."""
    first, second, third = _COEFFICIENTS
    x_NRC = update_RC.to(torch.bfloat16).unflatten(0, (parts, -1))
    tall = x_NRC.shape[1] > x_NRC.shape[2]
    x_NRC = x_NRC.mT if tall else x_NRC
    x_NRC = x_NRC / x_NRC.norm(dim=(1, 2), keepdim=True).clamp(min=_EPS)
    for _ in range(_ITERATIONS):
        gram_NRR = x_NRC @ x_NRC.mT
        x_NRC = torch.baddbmm(x_NRC, torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=second, alpha=third), x_NRC, beta=first)
    return (x_NRC.mT if tall else x_NRC).flatten(0, 1)
