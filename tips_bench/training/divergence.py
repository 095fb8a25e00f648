"""When to stop a run that will not recover, within hundreds of steps: targets that no longer tell images apart, or a loss that came back.

A teacher that has collapsed says the same of every image: then the entropy of its mean distribution is no larger than the mean entropy of
its distributions, whether one prototype has taken all or all are alike. What the first exceeds the second by is what its targets say of an
image, in nats. Towers that have barely begun say little, too, for as long as the rate warms up, but not nothing: so little that is left is
judged by two measures, one for targets that have told images apart before, and a far smaller one for those that have not.

The contrastive loss of a model that cannot tell images apart is the logarithm of the batch. A run has diverged when its loss, after it
fell well below that, is back more than half of the way for as many steps.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping

from tips_bench.errors import UserError
from tips_bench.training.recipe import Recipe
from tips_bench.training.student import CONTRASTIVE

# nats between the two entropies; 0 = the targets say nothing of the image. tips-nano's say 1.1 of one throughout
_LEAST_INFORMATION = 1e-3
# nats from which on targets have told images apart
_TOLD_APART = 1e-2
# nats that targets of first weights exceed; see docs/training-runs.md
_NOTHING = 1e-5
# nats below chance from which on a contrastive loss has fallen
_FALLEN = 0.5
# a temperature beyond these has run away: the published ones lie between 0.003 and 0.07
_TEMPERATURES = (1e-4, 1e2)
WINDOW = 300
"""Steps in a row after which a teacher without information has collapsed, or a loss that came back has diverged."""
_MEAN_OF = 50  # steps; single batches differ


class DivergenceMonitor:
    """Looks at the report of every step whose numbers are finite. A run that is resumed has a new one, which has seen nothing yet."""

    def __init__(self, recipe: Recipe, window: int = WINDOW) -> None:
        self.recipe, self.window = recipe, window
        self._silent: Counter[str] = Counter()
        self._has_told: set[str] = set()
        self._losses: deque[float] = deque(maxlen=_MEAN_OF)
        self._least, self._risen, self._stage = math.inf, 0, 0

    def check(self, step: int, report: Mapping[str, float], *, stage: int = 0) -> None:
        """step: from 1. stage: index of the one that the step belongs to.

        Errors: a temperature that ran away, a loss that came back, a teacher that has collapsed for too long.
        """
        where, rate = f"step {step}", f"stages.{stage}.learning_rate"
        low, high = _TEMPERATURES
        if not low <= report.get("temperature", 1.0) <= high:
            problem = f"the contrastive temperature has diverged to {report['temperature']:.3g}"
            raise UserError(problem, where=where, fix=self._advice(step, rate))
        if CONTRASTIVE in report:
            self._check_loss(report[CONTRASTIVE], step, stage)
        for key in report:
            if key.startswith("entropy/"):
                self._check_teacher(key.partition("/")[2], report, step, rate)

    def _check_loss(self, loss: float, step: int, stage: int) -> None:
        if stage != self._stage:  # of another batch or resolution
            self._least, self._risen, self._stage = math.inf, 0, stage
            self._losses.clear()
        self._losses.append(loss)
        if len(self._losses) < _MEAN_OF:
            return
        mean, chance = sum(self._losses) / _MEAN_OF, math.log(self.recipe.stages[stage].batch)
        self._least = min(self._least, mean)
        has_come_back = self._least < chance - _FALLEN and mean > (self._least + chance) / 2
        self._risen = self._risen + 1 if has_come_back else 0
        if self._risen >= self.window:
            problem = f"the contrastive loss was {self._least:.3g}, and for {self._risen} steps near {mean:.3g}; {chance:.3g} is chance"
            raise UserError(problem, where=f"step {step}", fix=self._advice(step - self._risen, f"stages.{stage}.learning_rate"))

    def _check_teacher(self, name: str, report: Mapping[str, float], step: int, rate: str) -> None:
        of_mean = report[f"mean_entropy/{name}"]
        information = of_mean - report[f"entropy/{name}"]
        if information >= _TOLD_APART:
            self._has_told.add(name)
        least = _LEAST_INFORMATION if name in self._has_told else _NOTHING
        self._silent[name] = self._silent[name] + 1 if information < least else 0
        if self._silent[name] >= self.window:
            if of_mean < math.log(2):
                how, advice = "one prototype has taken all", "Raise the teacher's temperature"
            else:
                how, advice = "its targets are the same for every image", "Lower the teacher's temperature"
            raise UserError(
                f"the teacher of {name!r} has collapsed, {how}: for {self._silent[name]} steps its targets did not depend on the image",
                where=f"step {step}",
                fix=f"{advice} with --set method.{name}.sharpening.teacher=VALUE. {self._advice(step - self._silent[name], rate)}",
            )

    def _advice(self, sound: int, rate: str) -> str:
        """What to do. sound: the last step that was without the fault."""
        return (
            f"Lower the learning rate: continue with --resume --set {rate}=VALUE, from a checkpoint of step {max(sound, 0)} or earlier"
            " (remove the later ones in checkpoints/)."
        )
