"""What a number means: its unit and its direction, so that ranking, best-so-far and arrows are one function each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

Values = TypeVar("Values", float, "np.ndarray")


@dataclass(frozen=True)
class MetricSpec:
    """unit: "%", "m", "deg", or "" for a ratio."""

    unit: str
    higher_is_better: bool

    def gain(self, value: Values, than: Values) -> Values:
        """By how much `value` beats `than`, in the unit: positive is better. Of numbers or arrays."""
        return value - than if self.higher_is_better else than - value

    def better(self, value: float, than: float) -> bool:
        """Whether `value` beats `than`. NaN is not scored: it beats nothing, and any score beats it."""
        if math.isnan(value) or math.isnan(than):
            return not math.isnan(value)
        return self.gain(value, than) > 0

    def order(self, value: float) -> float:
        """A key that sorts the best value first and NaN, which is not scored, last."""
        return math.inf if math.isnan(value) else -self.gain(value, 0.0)

    @property
    def arrow(self) -> str:
        """The direction as a sign: "↑" where higher is better."""
        return "↑" if self.higher_is_better else "↓"


PERCENT = MetricSpec(unit="%", higher_is_better=True)
