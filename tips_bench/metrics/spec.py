"""What a number means: its unit, its direction and its worst value, so that ranking and best-so-far are one function."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSpec:
    """worst: the value of a model that gets everything wrong, in `unit`; the start of any search for the best."""

    unit: str
    higher_is_better: bool
    worst: float

    def better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`. NaN is not scored: it beats nothing, and any score beats it."""
        if math.isnan(value) or math.isnan(than):
            return not math.isnan(value)
        return value > than if self.higher_is_better else value < than


PERCENT = MetricSpec(unit="%", higher_is_better=True, worst=0.0)
