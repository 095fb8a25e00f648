"""When to stop a run that will not recover: a loss that is no number, or targets that no longer tell images apart.

A teacher that has collapsed says the same of every image: then the entropy of its mean distribution is no larger than the mean entropy of
its distributions, whether one prototype has taken all or all are alike. What the first exceeds the second by is what its targets say of an
image, in nats. Towers that have barely begun say nothing either, for as long as the rate warms up; so a window of steps decides once
targets have told images apart, and a longer patience until then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from tips_bench.errors import UserError

# nats between the two entropies; 0 = the targets say nothing of the image. tips-nano's say 1.1 of one throughout
_LEAST_INFORMATION = 1e-3
# nats from which on targets have told images apart
_TOLD_APART = 1e-2
# a temperature beyond these has run away: the published ones lie between 0.003 and 0.07
_TEMPERATURES = (1e-4, 1e2)
WINDOW = 300
"""Steps in a row without information after which a teacher that has told images apart has collapsed."""


class DivergenceMonitor:
    """Looks at the report of every step. A run that is resumed has a new one, which has seen nothing yet.

    patience: as `WINDOW`, for a teacher that has never told images apart.
    """

    def __init__(self, patience: int, window: int = WINDOW) -> None:
        self.patience, self.window = patience, window
        self._silent: Counter[str] = Counter()
        self._has_told: set[str] = set()

    def check(self, step: int, report: Mapping[str, float], *, stage: int = 0) -> None:
        """stage: index of the one that the step belongs to.

        Errors: a term that is not finite, a temperature that ran away, a teacher that has collapsed for too long.
        """
        where, rate = f"step {step}", f"stages.{stage}.learning_rate"
        lower = f"Lower the learning rate: continue from the newest checkpoint with --resume --set {rate}=VALUE."
        # the total is not finite because one of its terms is not: name that one
        for term in sorted(report, key=lambda name: name in ("loss", "grad_norm")):
            if not math.isfinite(report[term]):
                what = "the norm of the gradient" if term == "grad_norm" else f"the term {term!r}"
                raise UserError(f"{what} is {report[term]}", where=where, fix=lower)
        low, high = _TEMPERATURES
        if not low <= report.get("temperature", 1.0) <= high:
            raise UserError(f"the contrastive temperature has diverged to {report['temperature']:.3g}", where=where, fix=lower)
        for key in report:
            if key.startswith("entropy/"):
                self._check_teacher(key.partition("/")[2], report, where, rate)

    def _check_teacher(self, name: str, report: Mapping[str, float], where: str, rate: str) -> None:
        of_mean = report[f"mean_entropy/{name}"]
        information = of_mean - report[f"entropy/{name}"]
        if information >= _TOLD_APART:
            self._has_told.add(name)
        self._silent[name] = self._silent[name] + 1 if information < _LEAST_INFORMATION else 0
        if self._silent[name] >= (self.window if name in self._has_told else self.patience):
            if of_mean < math.log(2):
                how, advice = "one prototype has taken all", "Raise the teacher's temperature"
            else:
                how, advice = "its targets are the same for every image", "Lower the teacher's temperature"
            raise UserError(
                f"the teacher of {name!r} has collapsed, {how}: for {self._silent[name]} steps its targets did not depend on the image",
                where=where,
                fix=f"{advice} or the learning rate: --resume --set method.{name}.sharpening.teacher=VALUE, or {rate}=VALUE.",
            )
