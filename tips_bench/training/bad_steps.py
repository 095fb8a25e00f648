"""Steps that are passed over: their losses or gradients are not finite, or the recipe says so. Too many of the first kind end a run."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from tips_bench.errors import UserError
from tips_bench.training.recipe_beside import BadStepsPart

BAD_STEP, PASSED_OVER = "bad step", "passed over"
"""The events in a run's log that tell of them; the second of those that the recipe names. A row of the first goes on over the second."""
LOOKED_BACK = 1000
"""Steps over which the share of bad ones is taken."""


class BadSteps:
    """Counts the bad steps of a run; one that is resumed starts anew. All ranks see the same report, and so find the same."""

    def __init__(self, part: BadStepsPart) -> None:
        self.part = part
        self.in_a_row = 0
        self._latest: deque[bool] = deque(maxlen=LOOKED_BACK)

    def fault(self, report: Mapping[str, float]) -> str | None:
        """What is not finite in a step's report, None where all is. A step without a fault ends a row."""
        fault = fault_of(report)
        self.in_a_row = 0 if fault is None else self.in_a_row + 1
        self._latest.append(fault is not None)
        return fault

    def check(self, step: int, fault: str, rate: str) -> None:
        """Errors: too many bad steps. step: the newest, from 1, which had the fault. rate: key of the learning rate."""
        many, first = sum(self._latest), step - self.in_a_row + 1
        if self.in_a_row > self.part.in_a_row:
            said = f"{fault}, and so it was in {self.in_a_row} steps in a row" if self.in_a_row > 1 else fault
        elif many > self.part.share * LOOKED_BACK:
            said = f"{fault}, and {many} of the last {len(self._latest)} steps were like that"
        else:
            return
        fix = (
            f"Lower the learning rate: continue from the newest checkpoint with --resume --set {rate}=VALUE. If it is the data, pass over"
            f" these steps with --set data.skip_steps='[[{first},{step}]]'; the log names the samples."
        )
        raise UserError(said, where=f"step {step}", fix=fix)


def fault_of(report: Mapping[str, float]) -> str | None:
    """The first term of a report that is not finite, as a sentence."""
    # the total is not finite because one of its terms is not: name that one
    for term in sorted(report, key=lambda name: name in ("loss", "grad_norm")):
        if not math.isfinite(report[term]):
            what = "the norm of the gradient" if term == "grad_norm" else f"the term {term!r}"
            return f"{what} is {report[term]}"
    return None
