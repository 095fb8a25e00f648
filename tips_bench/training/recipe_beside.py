"""What goes on beside the steps of a recipe: evaluations on the way, and what a run does about steps that went wrong."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from tips_bench.cards import Strict
from tips_bench.training.recipe_data import Fraction


class BadStepsPart(Strict):
    """Steps whose losses or gradients are not finite change nothing; more of them end the run.

    in_a_row: so many are passed over. share: of the last thousand steps.
    """

    in_a_row: int = Field(3, ge=0)
    share: Fraction = 0.02


class EvaluationPart(Strict):
    """Scoring the image tower by a task card while it is trained, in a process of its own. every: steps.

    overrides: "a.b=value" for the cards. launch: words before the command, such as "srun --gpus 1", so that it computes elsewhere.
    device: null for a GPU if there is one; of several ranks without launch for the processor, since each GPU has a rank that needs it.
    timeout_minutes: after which it is ended and counts as failed; with `launch`, the time in which it waits for its turn is part of it.
    """

    every: PositiveInt
    task: str
    protocol: str | None = None
    overrides: list[str] = []
    device: str | None = None
    launch: str = ""
    timeout_minutes: PositiveFloat = 720.0


def _as_list(value: Any) -> Any:
    """A single evaluation, or none, as recipes had them before there could be several."""
    return [] if value is None else [value] if isinstance(value, dict) else value


Evaluations = Annotated[list[EvaluationPart], BeforeValidator(_as_list)]
