"""When to stop a run that will not recover: a loss that is no number, or targets that no longer tell images apart.

A teacher that has collapsed says the same of every image: then the entropy of its mean distribution is no larger than the mean entropy of
its distributions, whether one prototype has taken all or all are alike. Early in training that is so as well; only a long stretch counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from tips_bench.errors import UserError

# nats between the two entropies; 0 = the targets say nothing of the image
_LEAST_INFORMATION = 1e-3
# a temperature beyond these has run away: the published ones lie between 0.003 and 0.07
_TEMPERATURES = (1e-4, 1e2)
_WRONG_RATE = "Lower the learning rate or lengthen the warm-up; the newest checkpoint is from before."


class Watch:
    """Looks at the report of every step. patience: steps in a row after which a collapse is taken for one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._collapsed: Counter[str] = Counter()

    def check(self, step: int, report: Mapping[str, float]) -> None:
        """Errors: a term that is not finite, a temperature that ran away, a teacher that has collapsed for too long."""
        where = f"step {step}"
        # the total is not finite because one of its terms is not: name that one
        for term in sorted(report, key=lambda name: name in ("loss", "grad_norm")):
            if not math.isfinite(report[term]):
                what = "the norm of the gradient" if term == "grad_norm" else f"the term {term!r}"
                raise UserError(f"{what} is {report[term]}", where=where, fix=_WRONG_RATE)
        low, high = _TEMPERATURES
        if not low <= report.get("temperature", 1.0) <= high:
            raise UserError(f"the contrastive temperature has diverged to {report['temperature']:.3g}", where=where, fix=_WRONG_RATE)
        for key in report:
            if key.startswith("entropy/"):
                self._check_teacher(key.partition("/")[2], report, where)

    def _check_teacher(self, name: str, report: Mapping[str, float], where: str) -> None:
        entropy, of_mean = report[f"entropy/{name}"], report[f"mean_entropy/{name}"]
        self._collapsed[name] = self._collapsed[name] + 1 if of_mean - entropy < _LEAST_INFORMATION else 0
        if self._collapsed[name] >= self.patience:
            how = "one prototype has taken all" if of_mean < math.log(2) else "its targets are the same for every image"
            raise UserError(
                f"the teacher of {name!r} has collapsed, {how}: for {self.patience} steps its targets did not depend on the image",
                where=where,
                fix="Lower the teacher's temperature if its targets are flat, raise it if one prototype takes all; or the learning rate.",
            )
