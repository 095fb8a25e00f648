"""scipy's bootstrap interval at the level that the expanded interval asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import bootstrap, norm, t


def expanded_bca(statistic: Callable[..., np.ndarray], number: int, *, resamples: int, rng: int | Sequence[int]) -> tuple[float, float]:
    """The 95 % BCa interval of `statistic(index, axis)` over `number` groups, widened for few groups and rare classes.

    scipy draws the resamples and finds the interval; only the level at which it is asked is ours: 95 % times Student's correction and
    the root of the jackknife's standard error over the bootstrap's.
    """

    def drawn(level: float):
        return bootstrap(
            (np.arange(number),), statistic, method="BCa", n_resamples=resamples, confidence_level=level, rng=np.random.default_rng(rng)
        )

    left_out = np.array([float(statistic(np.delete(np.arange(number), index), -1)) for index in range(number)])
    jackknife = np.sqrt((number - 1) / number * ((left_out - left_out.mean()) ** 2).sum())
    spread = drawn(0.95).bootstrap_distribution.std()
    wider = t.ppf(0.975, number - 1) * np.sqrt(number / (number - 1)) * np.sqrt(max(1, jackknife / spread))
    found = drawn(2 * norm.cdf(wider) - 1).confidence_interval
    return found.low, found.high
