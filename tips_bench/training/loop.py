"""A run from its first step, or from its newest checkpoint, to its last.

    tips-bench train recipes/tips-nano.yaml --set data.shards='rooms/train-{000..031}.tar'

Where a run stands is a step, what the learner holds and the place in the data; nothing else is carried from step to step, so a run that is
resumed goes on bit for bit as one that was never stopped. Checkpoints and evaluations are made beside the steps, which do not wait.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from tips_bench import ranks
from tips_bench.errors import UserError
from tips_bench.files import atomic
from tips_bench.journal import say, warn
from tips_bench.models.devices import resolve_device
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.progress import Advance, bar
from tips_bench.ranks import World
from tips_bench.training import checkpoint, runs
from tips_bench.training.bad_steps import BAD_STEP, PASSED_OVER, BadSteps
from tips_bench.training.batches import Batch, Report, TrainingData, all_together
from tips_bench.training.captions import TOKENIZER, tokenizer_file
from tips_bench.training.checkpoint_writer import CheckpointWriter
from tips_bench.training.claim import Changes, claimed, raise_if_not_shared, write_recipe
from tips_bench.training.distributed import add_up
from tips_bench.training.divergence import DivergenceMonitor
from tips_bench.training.endings import noted, raise_if_diverged
from tips_bench.training.evaluations import DONE, Evaluate, Evaluations
from tips_bench.training.first_samples import check_first_samples
from tips_bench.training.held_out import HeldOut, suspects
from tips_bench.training.history import START, History
from tips_bench.training.log import Log, read_log
from tips_bench.training.preemption import first_interrupt, raise_if_not_told, sigterm
from tips_bench.training.rank_counts import check_ranks
from tips_bench.training.recipe import Recipe
from tips_bench.training.schedule import is_due
from tips_bench.training.sources import find_shards, shard_order, source_orders
from tips_bench.training.step import Learner
from tips_bench.training.watchdog import Watchdog

Outcome = Literal["finished", "preempted"]
NAMED = 32
"""Samples of a bad step that the log names."""


def train(recipe: Recipe, run: Path, *, resume: bool = False, device: str | None = None, evaluate: Evaluate | None = None) -> Outcome:
    """Trains a recipe in the folder `run`. resume: go on from the newest whole checkpoint, from the start where there is none.

    A SIGTERM ends the run after the step it is in, with a checkpoint: "preempted". (In a row of bad steps: after the next good one.) So
    does a Ctrl-C, with a KeyboardInterrupt then.
    Errors: every fault of recipe, data and disk, a run that diverged or collapsed, ranks that are not there any more, a SIGTERM that came
    to other machines alone. Of several ranks one that fails has to end its process, which ends the others: they may wait for it in a
    collective, and leaving them would wait for that.
    """
    world = ranks.enter(resolve_device(device), watched=False)  # by the watchdog
    with ExitStack() as stack:
        check_ranks(recipe, world.size)
        watchdog = stack.enter_context(closing(Watchdog(world, 60 * recipe.running.timeout_minutes)))
        watchdog.start()
        if world.is_first:
            raise_if_diverged(run, recipe)
        changes = stack.enter_context(claimed(run, recipe, resume=resume)) if world.is_first else {}
        stack.enter_context(checkpoint.alone_on_purpose())
        world.barrier()
        raise_if_not_shared(run)
        history = History(run, world.rank)
        watchdog.last_words = history.stopped
        told = stack.enter_context(sigterm())
        with noted(history, recipe), closing(_Run(recipe, run, world, watchdog, history, evaluate)) as running:
            if changes:
                running.take_note_of(changes)
            with first_interrupt(told) as pressed:
                outcome = running.to_the_end(told)
            watchdog.close()
            ranks.leave()
            running.finish(outcome, told)
        if outcome == "preempted":
            raise_if_not_told(told)
            if pressed.is_set():
                raise KeyboardInterrupt
    return outcome


class _Run:
    """A run in progress on this rank."""

    def __init__(self, recipe: Recipe, run: Path, world: World, watchdog: Watchdog, history: History, evaluate: Evaluate | None) -> None:
        self.recipe, self.run, self.world, self.watchdog, self.history = recipe, run, world, watchdog, history
        self.watchdog.at(0, "indexing" if world.is_first else "starting")
        self.found = world.told(lambda: find_shards(recipe))
        broken = self._prepare_shards()
        self.watchdog.at(0, "starting")
        tokenizer = self._tokenizer()
        self.learner = Learner(recipe, world, runs.frozen_teacher(recipe))
        state = self._restore()
        self.step = self.history.step = 0 if state is None else state.step
        self.saved = self.step if state else -1
        self.saved_at, self.stalled_s, self.owed = time.monotonic(), 0.0, False
        places = () if state is None else state.data
        self.data = TrainingData(recipe, tokenizer, rank=world.rank, world=world.size, places=places, found=self.found)
        self.report = Report()  # of all ranks, at the newest checkpoint
        held_out = recipe.data.held_out
        self.held_out = None if held_out is None else HeldOut(recipe, held_out, tokenizer, world, self.found)
        self.bad = BadSteps(recipe.running.bad_steps)
        self.log = Log(run if world.is_first else None, self.step, recipe)
        self.monitor = world.told(lambda: self._monitor())
        if broken:
            self._tell("broken shards", shards=[str(path) for path in broken])
        parts = recipe.evaluation if world.is_first else []
        last, keep = recipe.steps, recipe.running.keep_models
        self.evaluations = Evaluations(run, parts, evaluate, self.step, last=last, keep=keep) if parts and evaluate is not None else None
        self.writer = CheckpointWriter(run, world, recipe.running.keep, self._export)

    def take_note_of(self, changes: Changes) -> None:
        """A run that goes on with other values says so in its log, and its recipe has them from now on."""
        self._tell("changed", values={key: list(pair) for key, pair in changes.items()})
        write_recipe(self.run, self.recipe)

    def to_the_end(self, told: threading.Event) -> Outcome:
        """All steps that are left, and the last checkpoint. told: set when the run is to end early."""
        self._tell(START, ranks=self.world.size, device=str(self.world.device))
        outcome = self._stages(told)
        self.watchdog.at(self.step, "ending")
        self._save(wait=True)
        self.world.barrier()  # none leaves while another still waits for it
        return outcome

    def finish(self, outcome: Outcome, told: threading.Event) -> None:
        """Waits on the first rank for scores that are still due, until told to stop; the other ranks are not needed any more."""
        if outcome == "finished":
            self._collect_scores(wait=told)
        self._tell(outcome)

    def _stages(self, told: threading.Event) -> Outcome:
        with bar(self.recipe.name, self.recipe.steps, "steps") as advance:
            advance(self.step)
            outcome: Outcome = "finished"
            while self.step < self.recipe.steps and outcome == "finished":
                outcome = self._stage(told, advance if self.world.is_first else _nothing)
        return outcome

    def _tell(self, event: str, **details: Any) -> None:
        """What the history of the run is to hold, and its log, too."""
        self.log.event(self.step, event, **details)
        self.history.add(event, **details)

    def close(self) -> None:
        """Lets go of the log, and says what could not be used."""
        if self.world.is_first and self.report.faults:
            say(f"{self.recipe.name}: {self.report}")
        self.writer.close()
        self.log.close()

    def _stage(self, told: threading.Event, advance: Advance) -> Outcome:
        """The steps that are left of the current stage."""
        index, within = self.recipe.stage_at(self.step)
        stage = self.recipe.stages[index]
        end = self.step - within + stage.steps
        self.watchdog.at(self.step + 1, "reading")
        # a generator that is closed lets go of its worker processes
        with closing(self.data.batches(stage, self.world.device)) as batches:  # type: ignore[type-var]
            for batch in batches:
                self.watchdog.at(self.step + 1, "computing")
                report = self._learn(batch) if self.recipe.learns_at(self.step) else None
                self.step += 1
                self.history.step = self.step
                self.log.count(stage.batch)
                if report is None:
                    self.log.event(self.step, PASSED_OVER)
                else:
                    self._take_note(batch, report)
                advance()
                stop, due = self._agreed(told)
                if stop and not self.bad.in_a_row:
                    return "preempted"
                self._keep(due)
                if self.step == end:
                    break
                self.watchdog.at(self.step + 1, "reading")
        return "finished"

    def _learn(self, batch: Batch) -> dict[str, float]:
        """One step. Errors: memory that does not suffice."""
        try:
            return self.learner.step(batch, self.step)
        except torch.OutOfMemoryError as error:
            where = f"running.micro_batch = {json.dumps(self.recipe.running.micro_batch)}"
            raise UserError(
                "the GPU does not have enough memory for one step",
                where=where,
                fix="Lower it: the number of images per forward pass. The batch stays the same.",
            ) from error

    def _take_note(self, batch: Batch, report: dict[str, float]) -> None:
        """Logs a step, and says what was wrong with it. Errors: a run that is lost."""
        held_out = self.held_out
        fault = self.bad.fault(report)
        measured = held_out is not None and is_due(held_out.part.every, self.step, self.recipe.steps)
        if held_out is not None and measured:
            report |= held_out.losses(self.learner, self.step - 1)
        if fault or measured or self.step % self.recipe.running.log_every == 0 or self.step in (1, self.recipe.steps):
            self.log.numbers(self.step, {**report, "skipped_samples": self.data.report.skipped}, self.world.device)
        stage = self.recipe.stage_at(self.step - 1)[0]
        if fault:
            self._pass_over(batch, fault)
            self.bad.check(self.step, fault, f"stages.{stage}.learning_rate")
        else:
            self._warn(self.monitor.check(self.step, report, stage=stage))

    def _warn(self, said: str | None) -> None:
        if said:
            self._tell("warning", said=said)
            if self.world.is_first:
                warn(f"{self.recipe.name}: {said}")

    def _monitor(self) -> DivergenceMonitor:
        """One that knows what the run has seen so far."""
        monitor = DivergenceMonitor(self.recipe)
        if self.step:
            monitor.take_up(line for line in read_log(self.run) if line["step"] <= self.step)
        return monitor

    def _pass_over(self, batch: Batch, fault: str) -> None:
        """Names the samples of a step that changed nothing: those that are not finite themselves, or else all of the step."""
        own = suspects(self.learner, batch, self.step - 1)
        found = [name for names in self.world.gather(own) for name in names]
        samples = found or [name for names in self.world.gather(batch.names[:NAMED]) for name in names]
        self._tell(BAD_STEP, fault=fault, certain=bool(found), samples=samples[:NAMED])
        if self.world.is_first:
            whose = "because of" if found else "none of its samples alone is the reason; the first are"
            say(f"{self.recipe.name}: step {self.step} changed nothing, {fault}: {whose} {', '.join(samples[:3])}")

    def _keep(self, due: bool) -> None:
        """A checkpoint, where its step or its time has come (after bad steps, once they end), and what was made beside the steps since."""
        every = [self.recipe.running.checkpoint_every, *(part.every for part in self.recipe.evaluation)]
        self.owed |= due or any(self.step % steps == 0 for steps in every)
        if self.owed and not self.bad.in_a_row:  # weights that give no numbers are not what a run should go on from
            self._save()
        if self.bad.in_a_row and self.evaluations is not None:
            self.evaluations.put_off(self.step)
        self._note(self.writer.take())
        self._collect_scores()

    def _save(self, *, wait: bool = False) -> None:
        """Starts a checkpoint of this step, once the one before is whole. wait: until this one is, too."""
        started = time.monotonic()
        self._note(self.writer.take(wait=True))
        if self.saved != self.step:
            tensors = checkpoint.tensors_of(self.learner.student, self.learner.teacher, self.learner.optimizer)
            self.writer.begin(tensors, self.step, self.data.state_dict(), self.monitor.sound(self.step))
            self.saved, self.saved_at, self.owed = self.step, time.monotonic(), False
            self.stalled_s = self.saved_at - started
        if wait:
            self._note(self.writer.take(wait=True))

    def _note(self, whole: checkpoint.State | None) -> None:
        """Says that a checkpoint is whole, and has its model scored."""
        if whole is None:
            return
        self.report = all_together([Report(**place["report"]) for place in whole.data])
        self.log.event(whole.step, "checkpoint", stalled_s=round(self.stalled_s, 4), **asdict(self.report))
        if self.evaluations is not None:
            self.evaluations.start(whole.step)

    def _export(self, step: int) -> None:
        if self.evaluations is not None:
            self.evaluations.export(step)

    def _collect_scores(self, *, wait: threading.Event | None = None) -> None:
        """Writes scores into the log. wait: for all that are due, until it is set."""
        for scored in self.evaluations.found(wait=wait) if self.evaluations is not None else []:
            details = {key: value for key, value in asdict(scored).items() if key != "step" and value is not None}
            self.log.event(scored.step, DONE, **details)
            self.log.scores(scored.step, scored.named_metrics)

    def _restore(self) -> checkpoint.State | None:
        folders = self.world.told(lambda: checkpoint.whole_ones(self.run))
        if not folders:
            return None
        checkpoint.allocate(self.learner.optimizer)
        tensors = checkpoint.tensors_of(self.learner.student, self.learner.teacher, self.learner.optimizer)
        state, faults = checkpoint.load_newest(folders, tensors)
        self.history.step = state.step
        for folder, fault in faults.items() if self.world.is_first else []:
            aside = checkpoint.put_aside(folder)
            self.history.add("damaged checkpoint", checkpoint=folder.name, fault=fault)
            why = f"{folder.name} (now {aside.name}) cannot be read: {fault}"
            say(f"{self.recipe.name}: the run goes on from step {state.step}, since {why}")
        return state

    def _prepare_shards(self) -> list[Path]:
        """Their indexes, made by the first rank for all; the shards that are left out.

        Errors: none of the first samples of a source can be used.
        """
        broken: list[Path] = []
        if self.world.is_first:
            checkpoint.remove_unfinished(self.run)
            broken = shard_order(self.recipe, self.found).broken
            for path in broken:
                say(f"{self.recipe.name}: left out, because it is no whole tar file: {path}")
            if checkpoint.newest(self.run) is None:
                for source in source_orders(self.recipe, self.found):
                    check_first_samples(self.recipe, source)
        self.world.barrier()
        return broken

    def _tokenizer(self) -> Tokenizer | None:
        """The recipe's, kept in the run's folder, where the first rank puts it."""
        if self.recipe.method.contrastive is None:
            return None
        path = self.run / TOKENIZER
        if self.world.is_first and not path.is_file():
            found = tokenizer_file(self.recipe, shard_order(self.recipe, self.found), self.run)
            if found != path:
                with atomic(path) as temporary:
                    temporary.write_bytes(found.read_bytes())
        self.world.barrier()
        return Tokenizer(path)

    def _agreed(self, told: threading.Event) -> tuple[bool, bool]:
        """What all ranks do alike: whether one of them was told to stop; whether the first one's clock wants a checkpoint."""
        minutes = self.recipe.running.checkpoint_minutes
        due = self.world.is_first and minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes
        stop, save = add_up(torch.tensor([float(told.is_set()), float(due)], device=self.world.device)).tolist()
        return bool(stop), bool(save)


def _nothing(units: int = 1) -> None:
    pass
