"""When to stop a run that will not recover, within hundreds of steps: targets that no longer tell images apart, or a loss that came back.

A teacher that has collapsed says the same of every image: then the entropy of its mean distribution is no larger than the mean entropy of
its distributions, whether one prototype has taken all or all are alike. What the first exceeds the second by is what its targets say of an
image, in nats. Towers that have barely begun say little, too, for as long as the rate warms up, but not nothing: so little that is left is
judged by two measures, one for targets that have told images apart before, and a far smaller one for those that have not.

The chance of a loss is what it is where nothing can be told: the logarithm of the batch for the contrastive one, of the prototypes for the
others. A run has diverged when a loss is well above its chance, or when its contrastive loss, after it fell well below, is back more than
half of the way, for as many steps. One whose contrastive loss stays near chance, in its first stage or after a new one began, has learned
nothing yet, which is told and ends nothing.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tips_bench.errors import UserError
from tips_bench.training.recipe import Recipe
from tips_bench.training.student import CONTRASTIVE
from tips_bench.training.teacher import parts_with_heads

# nats between the two entropies; 0 = the targets say nothing of the image. tips-nano's say 1.1 of one throughout
_LEAST_INFORMATION = 1e-3
# nats from which on targets have told images apart
_TOLD_APART = 1e-2
# nats that targets of first weights exceed; see docs/training-runs.md
_NOTHING = 1e-5
# nats below chance from which on a contrastive loss has fallen
_FALLEN = 0.5
# nats above chance, and above the first or the least of the losses, from which on a loss has run away
_RUN_AWAY = 1.0
# nats below chance until which nothing has been learned; tips-nano's loss is 0.3 below after 100 steps
_LEARNED = 0.1
# a temperature beyond these has run away: the published ones lie between 0.003 and 0.07
_TEMPERATURES = (1e-4, 1e2)
WINDOW = 300
"""Steps in a row after which a teacher without information has collapsed, or a loss that came back or ran away has diverged."""
_MEAN_OF = 50  # steps; single batches differ
_FADING = 10  # times the least information; targets that contain no more are about to collapse
_STANDS_FOR = 10  # steps before it that a line of the log stands for at most


class Diverged(UserError):
    """A run that goes on as it is will not recover."""


class DivergenceMonitor:
    """Looks at the report of every step whose numbers are finite. All ranks see the same reports, and so find the same."""

    def __init__(self, recipe: Recipe, window: int | None = None) -> None:
        self.recipe, self.window = recipe, window or WINDOW
        self._heads = parts_with_heads(recipe.method)
        self._silent: Counter[str] = Counter()
        self._fading: Counter[str] = Counter()
        self._has_told: set[str] = set()
        self._courses: dict[str, _Course] = {}
        self._stage = 0
        self._judged: set[int] = set()  # stages in which something was learned by its time, or not

    def take_up(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """What a run had seen before it goes on, from the lines of its log."""
        numbers = [{key: value for key, value in line.items() if value is not None} for line in lines if "loss" in line]
        for before, line in pairwise([{"step": 0}, *numbers]):
            stage, _ = self.recipe.stage_at(line["step"] - 1)
            self._add(line, stage, steps=min(line["step"] - before["step"], _STANDS_FOR))
            self._nothing_learned(line["step"], stage)

    def check(self, step: int, report: Mapping[str, float], *, stage: int = 0) -> str | None:
        """A warning, where there is one. step: from 1. stage: index of the one that the step belongs to.

        Errors: a temperature that ran away, a loss that came back or ran away, a teacher that has collapsed for too long.
        """
        self._add(report, stage)
        rate = f"stages.{stage}.learning_rate"
        low, high = _TEMPERATURES
        if not low <= report.get("temperature", 1.0) <= high:
            problem = f"the contrastive temperature has diverged to {report['temperature']:.3g}"
            raise Diverged(problem, where=f"step {step}", fix=self._advice(step, rate))
        for name, course in self._courses.items():
            self._check_loss(name, course, step, rate)
        for name, steps in self._silent.items():
            if steps >= self.window:
                raise self._collapsed(name, report, step, rate)
        return self._nothing_learned(step, stage)

    def sound(self, step: int) -> int:
        """The last step before the losses and targets that are at fault now; `step`, the last one that was looked at, if none is."""
        faults = [*self._fading.values(), *(course.trouble for course in self._courses.values())]
        return max(step - max(faults, default=0), 0)

    def _add(self, report: Mapping[str, float], stage: int, *, steps: int = 1) -> None:
        """A report that stands for so many steps."""
        if stage != self._stage:  # of another batch or resolution
            self._courses.clear()
            self._stage = stage
        for name in (CONTRASTIVE, *self._heads):
            if name in report:
                self._courses.setdefault(name, _Course(self._chance(name, stage), name == CONTRASTIVE)).add(report[name], steps)
        for key in report:
            if key.startswith("entropy/"):
                self._look_at_teacher(key.partition("/")[2], report, steps)

    def _chance(self, name: str, stage: int) -> float:
        """Of a loss, where nothing can be told."""
        return math.log(self.recipe.stages[stage].batch if name == CONTRASTIVE else self._heads[name].head.prototypes)

    def _look_at_teacher(self, name: str, report: Mapping[str, float], steps: int) -> None:
        information = report[f"mean_entropy/{name}"] - report[f"entropy/{name}"]
        if information >= _TOLD_APART:
            self._has_told.add(name)
        least = _LEAST_INFORMATION if name in self._has_told else _NOTHING
        self._silent[name] = self._silent[name] + steps if information < least else 0
        self._fading[name] = self._fading[name] + steps if information < _FADING * least else 0

    def _check_loss(self, name: str, course: _Course, step: int, rate: str) -> None:
        where = f"step {step}"
        if course.back >= self.window:
            problem = f"the contrastive loss was {course.least:.3g}, and for {course.back} steps near {course.mean:.3g}"
            raise Diverged(f"{problem}; {course.chance:.3g} is chance", where=where, fix=self._advice(step - course.trouble, rate))
        if course.above >= self.window:
            problem = f"the loss {name!r} has diverged: for {course.above} steps it was far above {course.chance:.3g}, which is chance"
            raise Diverged(f"{problem}, and is now {course.mean:.3g}", where=where, fix=self._advice(step - course.trouble, rate))

    def _collapsed(self, name: str, report: Mapping[str, float], step: int, rate: str) -> Diverged:
        if report[f"mean_entropy/{name}"] < math.log(2):
            how, advice = "one prototype has taken all", "Raise the teacher's temperature"
        else:
            how, advice = "its targets are the same for every image", "Lower the teacher's temperature"
        return Diverged(
            f"the teacher of {name!r} has collapsed, {how}: for {self._silent[name]} steps its targets did not depend on the image",
            where=f"step {step}",
            fix=f"{advice} with --set method.{name}.sharpening.teacher=VALUE. {self._advice(step - self._fading[name], rate)}",
        )

    def _nothing_learned(self, step: int, number: int) -> str | None:
        """Told once a stage, when it has learned as much as `window` steps at its highest rate do. step: from 1. number: of the stage."""
        course, stage = self._courses.get(CONTRASTIVE), self.recipe.stages[number]
        done = step - sum(before.steps for before in self.recipe.stages[:number])
        begun = done**2 / (2 * stage.warmup) if done < stage.warmup else done - stage.warmup / 2  # the sum of rates over the highest
        if course is None or number in self._judged or begun < self.window:
            return None
        self._judged.add(number)
        if course.least < course.chance - _LEARNED:
            return None
        where = f" in stage {stage.name!r}" if number else ""
        return (
            f"nothing learned yet{where}: after {done} steps the contrastive loss is {course.mean:.3g}, and {course.chance:.3g} is that of"
            " a model that can tell nothing; if it stays so, look at the captions, or try another learning rate, initial weights or"
            " temperature"
        )

    def _advice(self, sound: int, rate: str) -> str:
        """What to do. sound: the last step that was without the fault."""
        return (
            f"Lower the learning rate: continue with --resume --set {rate}=VALUE, from a checkpoint of step {max(sound, 0)} or earlier"
            " (remove the later ones in checkpoints/)."
        )


class _Course:
    """How a loss goes. mean: of the last steps; least: of these means. back, above: for how many steps in a row it has been too high.

    comes_back: whether it is at fault near chance, after it was well below.
    trouble: before how many steps it may have begun to rise to where it is now; 0 where it is as low as it was.
    """

    def __init__(self, chance: float, comes_back: bool) -> None:
        self.chance, self._comes_back = chance, comes_back
        self.mean, self.least, self.first = math.nan, math.inf, math.nan
        self.back = self.above = self._rising = 0
        self._latest: deque[float] = deque(maxlen=_MEAN_OF)

    def add(self, loss: float, steps: int) -> None:
        """A loss that stands for so many steps."""
        self.first = loss if math.isnan(self.first) else self.first
        self._latest.extend([loss] * steps)
        if len(self._latest) < _MEAN_OF:
            return
        self.mean = sum(self._latest) / _MEAN_OF
        self.least = min(self.least, self.mean)
        run_away = max(self.chance, min(self.first, self.least)) + _RUN_AWAY
        back = (self.least + self.chance) / 2 if self._comes_back and self.least < self.chance - _FALLEN else math.inf
        self.above = self.above + steps if self.mean > run_away else 0
        self.back = self.back + steps if self.mean > back else 0
        self._rising = self._rising + steps if self.mean > (self.least + min(run_away, back)) / 2 else 0

    @property
    def trouble(self) -> int:
        """From where the mean was last nearer to its least than to a limit, and back by the steps that it is the mean of."""
        return self._rising + _MEAN_OF if self._rising else 0
