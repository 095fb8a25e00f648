"""Time left of a list of evaluations, from how long those took that are done.

How much work one is follows from the cards: images times patches times the size of the encoder, and for each image what it costs
beside the encoder. What probes cost comes on top, so all of it is an estimate; it gets better with every evaluation that ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from tips_bench.evaluation.estimate import Estimate

AN_IMAGE = 1e9
"""What an image costs beside its encoder (to read, to scale, to score), in multiply-adds: some 10 ms of one core."""


def work_of(found: Estimate) -> float:
    """Of an evaluation, in multiply-adds, roughly; 0 where the cards do not say how many images there are."""
    card = found.spec.model
    patches = sum(number * math.prod(math.ceil(side / card.patch_size) for side in size) for size, number in found.sizes.items())
    weights = 12 * card.depth * card.embed_dim**2  # of a transformer
    return float(patches * weights + sum(found.sizes.values()) * AN_IMAGE)


class TimeLeft:
    """work: of each evaluation in its order, in any unit; 0 = not known, and taken for the mean of the others. clock: seconds."""

    def __init__(self, work: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        known = [one for one in work if one > 0]
        mean = sum(known) / len(known) if known else 1.0
        self._work, self._clock = [one if one > 0 else mean for one in work], clock
        self._next, self._begun = 0, clock()
        self._measured_work = self._measured_s = 0.0

    def begin(self) -> None:
        """The next evaluation starts."""
        self._begun = self._clock()

    def end(self, *, counts: bool) -> None:
        """It has ended. counts: whether its time says something: it did not fail, and had no record before."""
        if counts:
            self._measured_work += self._work[self._next]
            self._measured_s += self._clock() - self._begun
        self._next += 1

    def seconds(self) -> float | None:
        """For the rest of the list, the evaluation in progress included; None = none has ended yet that counts, or none is left."""
        if not self._measured_work or self._next >= len(self._work):
            return None
        pace = self._measured_s / self._measured_work
        current = self._work[self._next] * pace - (self._clock() - self._begun)
        return max(0.0, current) + pace * sum(self._work[self._next + 1 :])
