"""Evaluations on the way: what a checkpoint holds is exported, and scored beside the training, which waits for none of it.

RUN/evaluations/step-00001000/   the model, as `tips-bench export` writes it; as many as running.keep_models says
RUN/evaluations/records/         the records
"""

from __future__ import annotations

import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tips_bench.errors import UserError
from tips_bench.training import checkpoint, runs
from tips_bench.training.bad_steps import BAD_STEP, PASSED_OVER
from tips_bench.training.log import LOG_FILE, read_log
from tips_bench.training.recipe_beside import EvaluationPart
from tips_bench.training.schedule import is_due

Evaluate = Callable[[EvaluationPart, Path, Path], dict[str, float]]
"""Scores the model in a folder, keeps the record in another, and gives the metrics by name. It is called in a thread."""
EVALUATIONS, RECORDS = "evaluations", "records"
DONE = "evaluation"
"""The event in a run's log that tells of a score."""
_Key = tuple[int | str | None, ...]  # of an evaluation: step, task, protocol and overrides


@dataclass(frozen=True)
class Scored:
    """An evaluation of a recipe, made with the model of a step. fault: why it could not be, with no metrics then."""

    step: int
    task: str
    protocol: str | None
    overrides: list[str]
    metrics: dict[str, float]
    fault: str | None = None

    @property
    def name(self) -> str:
        """ "TASK", with "/PROTOCOL" and "/KEY=VALUE,KEY=VALUE" behind it where the recipe gives them."""
        overrides = ",".join(self.overrides).replace("/", "_")
        return "/".join(filter(None, [self.task, self.protocol, overrides]))

    @property
    def named_metrics(self) -> dict[str, float]:
        """By "evaluation/NAME/METRIC"."""
        return {f"{DONE}/{self.name}/{metric}": value for metric, value in self.metrics.items()}


class Evaluations:
    """The evaluations of a run, one after the other in a thread of their own. parts: those of the recipe; none on ranks but the first.

    Those of models and checkpoints until `step` that a run which goes on has no score of are made first. last: step of the run, whose
    model gets every evaluation. keep: so many of the models that have been scored, or could not be, the newest; None = all.
    """

    def __init__(
        self, run: Path, parts: Sequence[EvaluationPart], evaluate: Evaluate, step: int, *, last: int, keep: int | None = None
    ) -> None:
        self.run, self.parts, self.evaluate, self.last, self.keep = run, parts, evaluate, last, keep
        self._done: set[_Key] = set()
        self._unwritten: set[int] = set()  # steps whose model could not be exported
        self._put_off: set[int] = set()
        self._due: queue.Queue[tuple[int, EvaluationPart]] = queue.Queue()
        self._found: queue.Queue[Scored] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="evaluations", daemon=True)
        if parts:
            self._take_up(step)
            self._thread.start()

    def export(self, step: int) -> None:
        """Writes the model of a whole checkpoint, if something of it is to be scored. If that fails, its evaluations have failed."""
        parts = self._parts_at(step)
        try:
            if parts:
                runs.export(self.run, self._model(step), step=step)
        except UserError as error:
            self._unwritten.add(step)
            for part in parts:
                self._found.put(_failed(step, part, error))

    def start(self, step: int) -> None:
        """Scores the model of a step as soon as those before it are."""
        for part in self._parts_at(step) if step not in self._unwritten else []:
            self._due.put((step, part))

    def put_off(self, step: int) -> None:
        """What is due at a step of a row of bad ones, which gets no checkpoint, is made with the model of the step behind that row."""
        self._put_off.add(step)

    def found(self, *, wait: threading.Event | None = None) -> list[Scored]:
        """What has been scored since the last call. wait: until all are, or it is set."""
        while wait is not None and not wait.is_set() and self._due.unfinished_tasks and self._thread.is_alive():
            time.sleep(0.05)
        return [self._found.get_nowait() for _ in range(self._found.qsize())]

    def _work(self) -> None:
        while True:
            step, part = self._due.get()
            scored = _scored(step, part, {}, "it ended without a word")
            try:
                if not self._model(step).is_dir():
                    runs.export(self.run, self._model(step), step=step)
                metrics = self.evaluate(part, self._model(step), self.run / EVALUATIONS / RECORDS)
                scored = _scored(step, part, metrics)
            except UserError as error:  # an evaluation never ends a training
                scored = _failed(step, part, error)
            finally:
                self._found.put(scored)
                self._done.add(_key(step, part.task, part.protocol, part.overrides))
                self._remove_models()
                self._due.task_done()

    def _take_up(self, until: int) -> None:
        log = read_log(self.run) if (self.run / LOG_FILE).is_file() else []
        scores = [line for line in log if line.get("event") == DONE and line.get("fault") is None]
        self._done = {_key(line["step"], line["task"], line.get("protocol"), line.get("overrides", [])) for line in scores}
        for line in log:
            if line.get("event") == BAD_STEP or (line.get("event") == PASSED_OVER and line["step"] - 1 in self._put_off):
                self.put_off(line["step"])
        kept = filter(None, map(checkpoint.step_of, checkpoint.whole_ones(self.run)))
        for step in sorted({*self._exported(), *kept}):
            for part in self._left(step) if step <= until else []:
                self._due.put((step, part))

    def _exported(self) -> list[int]:
        """Steps of which there is a model."""
        return sorted(filter(None, map(checkpoint.step_of, (self.run / EVALUATIONS).glob("step-*"))))

    def _left(self, step: int) -> list[EvaluationPart]:
        return [part for part in self._parts_at(step) if _key(step, part.task, part.protocol, part.overrides) not in self._done]

    def _remove_models(self) -> None:
        scored = [step for step in self._exported() if not self._left(step)]
        for step in [] if self.keep is None else scored[: -self.keep]:
            shutil.rmtree(self._model(step), ignore_errors=True)

    def _parts_at(self, step: int) -> list[EvaluationPart]:
        first = step
        while first - 1 in self._put_off:
            first -= 1
        return [part for part in self.parts if any(is_due(part.every, one, self.last) for one in range(first, step + 1))]

    def _model(self, step: int) -> Path:
        return self.run / EVALUATIONS / checkpoint.folder_at(self.run, step).name


def _key(step: int, task: str, protocol: str | None, overrides: list[str]) -> _Key:
    return step, task, protocol, *overrides


def _scored(step: int, part: EvaluationPart, metrics: dict[str, float], fault: str | None = None) -> Scored:
    return Scored(step, part.task, part.protocol, part.overrides, metrics, fault)


def _failed(step: int, part: EvaluationPart, error: UserError) -> Scored:
    """What is known of an evaluation that could not be made; it is said, too."""
    scored = _scored(step, part, {}, str(error))
    print(f"the evaluation of step {step} on {scored.name} failed: {error}", file=sys.stderr)
    return scored
