"""Who gives the targets: a running mean of the student, of its heads alone, or a frozen model of an earlier run.

Axes in tensor names: B images, K global tokens, P patches, D feature, H W pixels, E bottleneck, C prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tips_bench.models.configs import VisionConfig
from tips_bench.models.vision import VisionTower
from tips_bench.training.distributed import local, whole
from tips_bench.training.heads import ProjectionHead
from tips_bench.training.prototypes import Center, Temperatures
from tips_bench.training.recipe import MethodPart, SharpeningPart

SELF_DISTILLATION, PATCHES = "self_distillation", "patches"


@dataclass(frozen=True)
class Target:
    """What the teacher saw on the whole global crops, without gradients."""

    globals_BKD: Tensor
    patches_BPD: Tensor


def parts_with_heads(method: MethodPart) -> dict[str, Any]:
    """The losses over prototypes that are switched on, by the name that they and their heads have."""
    parts = {SELF_DISTILLATION: method.self_distillation, PATCHES: method.patches}
    return {name: part for name, part in parts.items() if part is not None}


def make_heads(method: MethodPart, dim: int) -> nn.ModuleDict:
    """A head for each loss over prototypes, its values not set."""
    return nn.ModuleDict({name: ProjectionHead(dim, part.head) for name, part in parts_with_heads(method).items()})


class Teacher(nn.Module):
    """Heads and centres, and an encoder unless the student's is the teacher's too. Never trained by gradients.

    vision: of the encoder, None where the student's own features are the targets. dim: of its features.
    """

    def __init__(self, method: MethodPart, vision: VisionConfig | None, dim: int) -> None:
        super().__init__()
        self.vision = None if vision is None else VisionTower(vision)
        self.heads = make_heads(method, dim)
        self.centers = nn.ModuleDict(
            {name: Center(part.head.prototypes, part.sharpening.center_momentum) for name, part in parts_with_heads(method).items()}
        )
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, pixels_B3HW: Tensor, window_B2: Tensor | None = None) -> Target | None:
        """Its own targets; None where the student's features are."""
        if self.vision is None:
            return None
        seen = self.vision(pixels_B3HW, windows_B2=window_B2)
        return Target(seen.globals_BKD, seen.patches[0].flatten(1, 2))

    @torch.no_grad()
    def follow(self, student: nn.Module, momentum: float) -> None:
        """Moves every parameter towards the student's of the same name: teacher = momentum * teacher + (1 - momentum) * student."""
        theirs = dict(student.named_parameters())
        pairs = [
            (local(own), local(theirs[name]) if isinstance(own, DTensor) else whole(theirs[name].detach()))
            for name, own in self.named_parameters()
        ]
        if pairs:
            torch._foreach_lerp_([own for own, _ in pairs], [their for _, their in pairs], 1 - momentum)

    def move_centers(self) -> dict[str, Tensor]:
        """Ends a step; the centres' notes on it, as "entropy/NAME" and so on."""
        return {f"{key}/{name}": value for name, center in self.centers.items() for key, value in cast(Center, center).move().items()}

    def forget_step(self) -> None:
        """What the centres have observed since the last step ended did not happen."""
        for center in self.centers.values():
            cast(Center, center).forget()


def temperatures(part: SharpeningPart, step: float, steps: float) -> Temperatures:
    """Of a head at one step of those in which the teacher teaches, from 0. The teacher's rises linearly over its warm-up."""
    warmup = part.teacher_warmup * steps
    share = min(step / warmup, 1.0) if warmup else 1.0
    return Temperatures(part.student, part.teacher_start + share * (part.teacher - part.teacher_start))
