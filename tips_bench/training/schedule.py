"""What changes with the step: plain functions of its number."""

from __future__ import annotations

import math

from tips_bench.training.recipe import Recipe, StagePart


def cosine(start: float, end: float, step: float, steps: float) -> float:
    """From `start` at step 0 to `end` at the last of `steps`, along half a cosine."""
    share = step / (steps - 1) if steps > 1 else 1.0
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def learning_rate(stage: StagePart, step: int) -> float:
    """At a step of a stage: linear from peak / warmup to the peak, which the last step of warm-up has, then a cosine."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    return cosine(stage.learning_rate, stage.final_learning_rate, step - stage.warmup, stage.steps - stage.warmup)


def first_taught(recipe: Recipe) -> float:
    """The step, from 0, from which on the teacher teaches."""
    part = recipe.method.teacher
    return part.start * recipe.steps if part is not None else 0.0


def is_due(every: int, step: int, steps: int) -> bool:
    """Whether what is done every so many steps, and after the last one, is done after step `step`, from 1, of `steps`."""
    return step % every == 0 or step == steps


def start_at(step: int, steps: int) -> float:
    """The share of `steps` with which a teacher starts at a step, however it is rounded."""
    share = step / steps
    return share if share * steps <= step else math.nextafter(share, 0.0)
