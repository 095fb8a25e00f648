"""Teaching over prototypes: the cross-entropy of the student's distribution to the teacher's, centred and sharpened.

DINO (arXiv 2104.14294), equations 1 to 4: the teacher's scores are centred by a running mean of themselves, which keeps one prototype from
taking all, and both are softmaxed, the teacher at a lower temperature, which keeps the distribution from going flat.

Scores of all patches with tens of thousands of prototypes would not fit in memory; they are made in pieces of rows, and each piece
gives its part of the gradient at once, so nothing is kept or made twice.

Axes in tensor names: N rows (images or patches), M student's views of a row, E bottleneck, C prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tips_bench.training.distributed import add_up

# Values of one piece of scores; a few such tensors are alive at a time.
PIECE_VALUES = 1 << 24


@dataclass(frozen=True)
class Temperatures:
    """What scores are divided by before the softmax, at one step."""

    student: float
    teacher: float


class Center(nn.Module):
    """The running mean of the teacher's scores, and what the teacher said in this step.

    A step's scores, of all pieces and ranks, move the centre at the end of the step, as in DINOv2.
    """

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.mean_C: Tensor
        self.seen: Tensor
        self.register_buffer("mean_C", torch.zeros(prototypes))
        # sums over rows of this step: scores, probabilities, and one column for the entropies and for the number of rows
        self.register_buffer("seen", torch.zeros(2, prototypes + 1), persistent=False)

    def observe(self, scores_NC: Tensor, probs_NC: Tensor) -> None:
        """Takes note of the teacher's scores and of its distributions."""
        entropy_N = torch.special.entr(probs_NC).sum(dim=1)
        self.seen[0, :-1] += scores_NC.sum(dim=0)
        self.seen[1, :-1] += probs_NC.sum(dim=0)
        self.seen[0, -1] += entropy_N.sum()
        self.seen[1, -1] += len(scores_NC)

    def forget(self) -> None:
        """What was observed in this step did not happen."""
        self.seen.zero_()

    def move(self) -> dict[str, Tensor]:
        """Ends a step. Gives the mean entropy of the teacher's distributions, the entropy of their mean, in nats, and the centre's norm."""
        seen, self.seen = add_up(self.seen), torch.zeros_like(self.seen)
        count = seen[1, -1]
        self.mean_C.lerp_(seen[0, :-1] / count, 1 - self.momentum)
        return {
            "entropy": seen[0, -1] / count,
            "mean_entropy": torch.special.entr(seen[1, :-1] / count).sum(),
            "center_norm": self.mean_C.norm(),
        }


def prototype_loss(
    view_NME: Tensor,
    weight_CE: Tensor,
    target_NE: Tensor,
    target_weight_CE: Tensor,
    center: Center,
    temperatures: Temperatures,
    row_weight_N: Tensor | None = None,
    piece_values: int = PIECE_VALUES,
) -> Tensor:
    """Nats: the mean over views and rows of -sum_c teacher_c log student_c. The centre observes the teacher's scores.

    view_NME, target_NE: bottlenecks of student and teacher; the teacher's get no gradient. row_weight_N: in place of 1/N.
    piece_values: student's scores that are alive at once.
    """
    if row_weight_N is None:
        row_weight_N = torch.full_like(view_NME[:, 0, 0], 1 / len(view_NME))
    with torch.autocast(view_NME.device.type, enabled=False):
        given = _Given(target_NE.detach(), target_weight_CE.detach(), center, temperatures, row_weight_N, piece_values)
        return cast("Tensor", _PrototypeLoss.apply(view_NME, weight_CE, given))


class _Given(NamedTuple):
    """What the loss depends on and gives no gradient to, named as in `prototype_loss`."""

    target_NE: Tensor
    target_weight_CE: Tensor
    center: Center
    temperatures: Temperatures
    row_weight_N: Tensor
    piece_values: int


class _PrototypeLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, view_NME: Tensor, weight_CE: Tensor, given: _Given) -> Tensor:
        target_NE, target_weight_CE, center, temperatures, row_weight_N, piece_values = given
        views = view_NME.shape[1]
        rows = max(1, piece_values // (views * len(weight_CE)))
        loss = view_NME.new_zeros(())
        view_grad_NME, weight_grad_CE = torch.empty_like(view_NME), torch.zeros_like(weight_CE)
        for start in range(0, len(view_NME), rows):
            here = slice(start, start + rows)
            teacher_NC = target_NE[here] @ target_weight_CE.T
            probs_NC = ((teacher_NC - center.mean_C) / temperatures.teacher).softmax(dim=1)
            center.observe(teacher_NC, probs_NC)
            view_RE = view_NME[here].flatten(0, 1)
            log_NMC = (view_RE @ weight_CE.T / temperatures.student).log_softmax(dim=1).unflatten(0, (-1, views))
            weight_N = row_weight_N[here] / views
            loss -= weight_N @ (probs_NC * log_NMC.sum(dim=1)).sum(dim=1)
            push_RC = (log_NMC.exp_() - probs_NC[:, None]).mul_(weight_N[:, None, None] / temperatures.student).flatten(0, 1)
            view_grad_NME[here] = (push_RC @ weight_CE).unflatten(0, (-1, views))
            weight_grad_CE.addmm_(push_RC.T, view_RE)
        ctx.save_for_backward(view_grad_NME, weight_grad_CE)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        view_grad_NME, weight_grad_CE = ctx.saved_tensors
        return grad * view_grad_NME, grad * weight_grad_CE, None
