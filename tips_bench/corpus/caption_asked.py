"""The questions about the images of one shard, many at a time and in any order, each put to the captioner once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tips_bench.corpus.caption_answers import judge, plain
from tips_bench.corpus.caption_cache import AnswerCache, answer_key
from tips_bench.corpus.caption_desk import Desk
from tips_bench.corpus.captioners.base import Answer, Fault, Question, asked_with, passes
from tips_bench.corpus.in_flight import in_flight
from tips_bench.corpus.store import Sample, read_samples
from tips_bench.prompt_card import SYNTHETIC, WEB, PromptCard

Failed = Literal["drop", "keep"]
ROUNDS = 3  # in which an image gets no answer though the captioner works, before it stays without a caption
_NOT_ASKED = Fault("not asked", kind="passing")


@dataclass
class Described:
    """What a sample got. captions: with those it had, where they stay. faults: one a prompt that got no caption. notes: to be counted."""

    captions: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Unanswered:
    """Of a question: the rounds in which it got no answer though the captioner worked, and whether no image at all got one in them."""

    rounds: int = 0
    alone: bool = True


@dataclass
class _Task:
    """A sample on its way through the prompts.

    late: a question got no answer for a reason that may pass. asked: the captioner was asked about it now. fault: why that gave no caption.
    """

    place: int
    sample: Sample
    sha256: str
    found: Described
    late: bool = False
    asked: bool = False
    fault: str = ""


class Asked:
    """The questions about one shard. number: how many were put to the captioner."""

    def __init__(self, desk: Desk, cards: Sequence[PromptCard], answers: AnswerCache, failed: Failed, add: bool) -> None:
        self._desk, self._cards, self._answers, self._failed, self._add = desk, cards, answers, failed, add
        self._lock, self.number = threading.Lock(), 0
        self._given: dict[str, Future[Answer | Fault]] = {}  # what is asked about now, too
        self._unanswered: dict[str, _Unanswered] = {}
        self._final: dict[str, Fault] = {}  # of questions that are asked no more
        self._any_answer = False  # in this round
        self._counted: set[str] = set()  # images without a caption

    def all(self, shard: Path) -> list[Described]:
        """What each sample of a shard got, in order.

        Samples that got no answer for a reason that may pass are asked about again at the end, in further rounds.
        Errors: those of the captioner and of the desk.
        """
        found: dict[int, Described] = {}
        left: set[int] | None = None
        while left is None or left:
            batches, left = self._batches(shard, left), set()
            for tasks in in_flight(self._through_prompts, batches, self._desk.captioner.at_once):
                found |= {task.place: task.found for task in tasks if not task.late}
                left |= {task.place for task in tasks if task.late}
            if left:
                self._end_round()
        return [found[place] for place in range(len(found))]

    def _end_round(self) -> None:
        """Have the questions without an answer asked again, but those no more that had enough rounds in which the captioner worked."""
        works, any_answer, self._any_answer = self._desk.works(), self._any_answer, False
        for key, fault in [(key, one.result()) for key, one in self._given.items()]:
            if isinstance(fault, Fault) and passes(fault):
                del self._given[key]
                if works and fault is not _NOT_ASKED:
                    self._end_try(key, fault, any_answer)

    def _end_try(self, key: str, fault: Fault, any_answer: bool) -> None:
        so_far = self._unanswered.setdefault(key, _Unanswered())
        so_far.rounds, so_far.alone = so_far.rounds + 1, so_far.alone and not any_answer
        if so_far.rounds == ROUNDS:
            self._final[key] = Fault(fault.reason, fault.detail, "refused" if so_far.alone else "image")

    def _batches(self, shard: Path, wanted: set[int] | None) -> Iterator[list[_Task]]:
        """The wanted samples in their order. wanted: places in the shard; None = all."""
        batch: list[_Task] = []
        for place, sample in enumerate(read_samples(shard)):
            if wanted is not None and place not in wanted:
                continue
            sha256 = hashlib.sha256(sample.image).hexdigest()
            batch.append(_Task(place, sample, sha256, Described(_texts(sample, SYNTHETIC) if self._add else [])))
            if len(batch) == self._desk.captioner.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _through_prompts(self, tasks: list[_Task]) -> list[_Task]:
        """Ask each prompt in its turn about samples that go together."""
        for card in self._cards:
            open_ = [task for task in tasks if not (task.late or (task.found.faults and self._failed == "drop"))]
            for task, given in zip(open_, self._answers_to(card, open_), strict=True):
                _take(card, task, given)
        for task in tasks:
            if task.asked and not task.late:
                self._count(task)
        return tasks

    def _answers_to(self, card: PromptCard, tasks: list[_Task]) -> list[Answer | Fault]:
        """What is known or said of each. A question that another thread asks now is waited for, after one's own."""
        texts = [_text(card, task) for task in tasks]
        keys = [answer_key(task.sha256, card.digest(), text) for task, text in zip(tasks, texts, strict=True)]
        known = self._answers.find(keys)
        own: dict[str, tuple[_Task, str]] = {}
        with self._lock:
            for key, task, text in zip(keys, tasks, texts, strict=True):
                if key not in known and key not in self._given:
                    self._given[key] = Future()
                    own[key] = task, text
        self._ask(card, own)
        return [known[key] if key in known else self._given[key].result() for key in keys]

    def _ask(self, card: PromptCard, own: dict[str, tuple[_Task, str]]) -> None:
        """Hand on what is said to all who wait for it, an error, too."""
        try:
            said = self._said(card, own)
        except BaseException as error:
            for key in own:
                self._given[key].set_exception(error)
            raise
        for key, given in said.items():
            self._given[key].set_result(given)

    def _said(self, card: PromptCard, own: dict[str, tuple[_Task, str]]) -> dict[str, Answer | Fault]:
        """What the captioner says; its answers are kept, its faults are not. It is not asked while it is silent."""
        said: dict[str, Answer | Fault] = {}
        questions: dict[str, Question] = {}
        for key, (task, text) in own.items():
            try:
                if key in self._final:
                    raise self._final[key]
                questions[key] = asked_with(card, task.sample, text)
            except Fault as fault:
                said[key] = fault
        if questions and self._desk.is_silent:
            said |= dict.fromkeys(questions, _NOT_ASKED)
        elif questions:
            with self._lock:
                self.number += len(questions)
            given = self._desk.ask(list(questions.values()))
            said |= zip(questions, [replace(one, text=plain(one.text)) if isinstance(one, Answer) else one for one in given], strict=True)
            if answers := {key: one for key, one in said.items() if isinstance(one, Answer)}:
                self._any_answer = True
                self._answers.put(answers)
        for key, (task, _) in own.items():
            _note(card, task, said[key])
        return said

    def _count(self, task: _Task) -> None:
        """Tell the desk of an image that the captioner was asked about; of one without a caption once."""
        with self._lock:
            again = bool(task.fault) and task.sha256 in self._counted
            self._counted |= {task.sha256} if task.fault else set()
        if not again:
            self._desk.count(task.fault)


def _note(card: PromptCard, task: _Task, said: Answer | Fault) -> None:
    """Keep what the captioner has said of an image just now."""
    if isinstance(said, Fault) and said.kind == "image":
        return
    task.asked = True
    if reason := judge(said).reason:
        task.fault = f"{card.name}: {said if isinstance(said, Fault) else reason}"


def _take(card: PromptCard, task: _Task, given: Answer | Fault) -> None:
    if passes(given):
        task.late = True
        return
    judged = judge(given)
    if judged.reason:
        task.found.faults.append(f"{card.name}: {judged.reason}")
        return
    task.found.captions.append(judged.caption)
    if judged.note:
        task.found.notes.append(f"{card.name}: {judged.note}")


def _text(card: PromptCard, task: _Task) -> str:
    web, synthetic = _texts(task.sample, WEB)[:1], task.found.captions[:1]
    if SYNTHETIC in card.used() and not synthetic:
        task.found.notes.append(f"{card.name}: without a caption to start from")
    return card.text(plain("".join(web)), "".join(synthetic))


def _texts(sample: Sample, kind: str) -> list[str]:
    """The captions of a kind that a sample has."""
    given = sample.said.get(kind)
    return [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str) and text.strip()]
