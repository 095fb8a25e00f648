"""A captioner of this process: whether it answers now, how long it is waited for, and when it is given up."""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Sequence

from PIL import Image

from tips_bench.corpus.captioners.base import Answer, Captioner, Fault, Pace, Question, passes
from tips_bench.corpus.captioners.choose import WHERE, build_captioner
from tips_bench.errors import UserError
from tips_bench.journal import warn

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 60.0  # doubled with each question that gets no answer
TRIAL_SIDE = 224  # pixels


class Desk:
    """A captioner, how many images in a row got no caption from it, and since when no image got an answer. Safe for several threads."""

    def __init__(self, name: str, captioner: Captioner, patience_s: float, give_up: int) -> None:
        self.name, self.captioner, self.patience_s, self.give_up = name, captioner, patience_s, give_up
        self._lock = threading.Lock()
        self._in_a_row = self._unanswered = 0
        self._silent_since: float | None = None  # of time.monotonic

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        """As a captioner does."""
        said = self.captioner.ask(questions)
        with self._lock:
            for one in said:
                self._unanswered = self._unanswered + 1 if passes(one) else 0
                self._silent_since = (self._silent_since or time.monotonic()) if passes(one) else None
        return said

    @property
    def is_silent(self) -> bool:
        """Whether the latest questions, as many as are asked at a time, got no answer for reasons that may pass."""
        return self._unanswered >= self.captioner.at_once

    def works(self) -> bool:
        """Whether it answers a question about a plain image. If it does not at once (False), it is waited for.

        Errors: it gives no answer, and for `patience_s` no image got one.
        """
        wait_s = FIRST_WAIT_S
        while True:
            time.sleep(wait_s)
            (given,) = self.captioner.ask([_trial()])
            if not (isinstance(given, Fault) and passes(given)):
                self._unanswered = 0
                return wait_s == FIRST_WAIT_S
            self._check_patience(given)
            if wait_s == FIRST_WAIT_S:
                warn(f"{self.name} gives no answer ({given}); it is asked again until it does, for {_minutes(self.patience_s)} at most")
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _check_patience(self, fault: Fault) -> None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since >= self.patience_s:
            problem = f"{self.name} has given no answer for {_minutes(now - self._silent_since)}; the last fault: {fault}"
            fix = "Give the same command again when it works: it goes on where it stopped. With a larger --patience it waits longer."
            raise UserError(problem, where=WHERE, fix=fix)

    def count(self, fault: str) -> None:
        """One more image that it was asked about; fault: why it lacks a caption, "" = it has all. Errors: too many in a row lack one."""
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if fault else 0
            if self.give_up and self._in_a_row >= self.give_up:
                self._in_a_row = 0
                fix = "Look at what the captioner answers; the same command goes on where it stopped. --give-up 0 never stops."
                raise UserError(f"{self.name} gave {self.give_up} images in a row no caption; the last: {fault}", where=WHERE, fix=fix)


@functools.lru_cache(maxsize=1)
def open_desk(captioner: str, pace: Pace, give_up: int) -> Desk:
    """The one of this process, with its model, for one shard after another. Errors: those of `build_captioner`."""
    return Desk(captioner, build_captioner(captioner, pace), pace.patience_s, give_up)


def _trial() -> Question:
    """A question that any captioner that works has an answer to."""
    out = io.BytesIO()
    Image.new("RGB", (TRIAL_SIDE, TRIAL_SIDE), "gray").save(out, "jpeg")
    return Question(out.getvalue(), "jpg", "Which color is this?", max_tokens=16)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} minutes"
