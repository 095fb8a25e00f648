"""The captions of one shard: each image is asked about once for each prompt, then the shard is written with what was answered.

First every question is answered, many at a time and in any order; then the shard is read again and written in its own order, so that the
same answers give the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tips_bench.corpus.caption_answers import judge, plain
from tips_bench.corpus.caption_cache import AnswerCache, answer_key
from tips_bench.corpus.captioners.base import Answer, Captioner, Fault, Pace, Question, asked_with
from tips_bench.corpus.captioners.choose import WHERE, build_captioner
from tips_bench.corpus.in_flight import in_flight
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import Sample, read_samples, with_licenses, write_shard
from tips_bench.corpus.target import Destination, bring
from tips_bench.errors import UserError
from tips_bench.prompt_card import SYNTHETIC, WEB, PromptCard
from tips_bench.training.shard_files import shard_path

Failed = Literal["drop", "keep"]


@dataclass
class Described:
    """What a sample got. captions: with those it had, where they stay. faults: one a prompt that got no caption. notes: to be counted."""

    captions: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def caption_shard(
    source: str,
    target: str,
    done: str,
    *,
    captioner: str,
    prompts: list[dict[str, Any]],
    failed: Failed,
    add: bool,
    cache: str,
    pace: dict[str, Any],
    give_up: int,
    to: Destination | None,
) -> None:
    """Write the shard `target` and, last, the file `done`: the shard as the manifest names it, what was dropped and counted.

    to: object storage that the shard is brought to; None = it stays.
    captioner: as --captioner says it. prompts: cards. failed: what happens to a sample that lacks a caption. add: behind the captions that
    are there, not in their place. cache: folder of the captioner's answers. pace: fields of Pace. give_up: faults in a row that end it all.
    Errors: those of the captioner and of `bring`; `give_up` samples in a row without a caption.
    """
    cards = [PromptCard.model_validate(card) for card in prompts]
    desk = open_desk(captioner, Pace(**pace), give_up)
    dropped, notes, licenses = list[tuple[str, str]](), Counter[str](), Counter[str]()
    with at_hand(shard_path(source)) as shard:
        with AnswerCache(Path(cache)) as answers:
            asked = Asked(desk, cards, answers, failed, add)
            described = asked.all(shard)
        samples = _with_captions(shard, described, failed, dropped, notes)
        written = write_shard(Path(target), with_licenses(samples, licenses))
    counts = {"notes": dict(sorted(notes.items())), "licenses": dict(sorted(licenses.items())), "asked": asked.number}
    named = [(f"{shard.name}/{key}", reason, "") for key, reason in dropped]
    bring(Path(target), {"shard": written.model_dump(mode="json"), "dropped": named, **counts}, Path(done), to)


def _with_captions(
    shard: Path, described: Sequence[Described], failed: Failed, dropped: list[tuple[str, str]], notes: Counter[str]
) -> Iterator[Sample]:
    for sample, one in zip(read_samples(shard, dropped), described, strict=True):
        if one.faults and failed == "drop":
            dropped.append((sample.key, one.faults[0]))
            continue
        notes.update([*one.notes, *one.faults])
        others = {name: value for name, value in sample.said.items() if name != SYNTHETIC}
        yield replace(sample, said=others | ({SYNTHETIC: one.captions} if one.captions else {}))


class Desk:
    """A captioner of this process, and how many images in a row got no caption from it."""

    def __init__(self, name: str, captioner: Captioner, give_up: int) -> None:
        self.name, self.captioner, self.give_up = name, captioner, give_up
        self._lock, self._in_a_row = threading.Lock(), 0

    def count(self, fault: str) -> None:
        """One more answer; fault: why it gave no caption, "" = it gave one. Errors: too many in a row that gave none."""
        with self._lock:
            self._in_a_row = self._in_a_row + 1 if fault else 0
            if self.give_up and self._in_a_row >= self.give_up:
                self._in_a_row = 0
                fix = "Look at what the captioner answers; the same command goes on where it stopped. --give-up 0 never stops."
                raise UserError(f"{self.name} gave {self.give_up} images in a row no caption; the last: {fault}", where=WHERE, fix=fix)


@functools.lru_cache(maxsize=1)
def open_desk(captioner: str, pace: Pace, give_up: int) -> Desk:
    """The one of this process, with its model, for one shard after another. Errors: those of `build_captioner`."""
    return Desk(captioner, build_captioner(captioner, pace), give_up)


@dataclass
class _Task:
    """A sample on its way through the prompts."""

    place: int
    sample: Sample
    sha256: str
    found: Described


class Asked:
    """The questions about one shard. number: how many were put to the captioner."""

    def __init__(self, desk: Desk, cards: Sequence[PromptCard], answers: AnswerCache, failed: Failed, add: bool) -> None:
        self._desk, self._cards, self._answers, self._failed, self._add = desk, cards, answers, failed, add
        self._lock, self.number = threading.Lock(), 0

    def all(self, shard: Path) -> list[Described]:
        """What each sample of a shard got, in order.

        An image that comes again waits until the first of its kind is answered: the answer is there for it, too.
        """
        found: dict[int, Described] = {}
        captioner = self._desk.captioner
        left: set[int] | None = None
        while left is None or left:
            again: set[int] = set()
            batches = self._batches(shard, left, again, captioner.batch)
            for tasks in in_flight(self._through_prompts, batches, captioner.at_once):
                found |= {task.place: task.found for task in tasks}
            left = again
        return [found[place] for place in range(len(found))]

    def _batches(self, shard: Path, wanted: set[int] | None, again: set[int], size: int) -> Iterator[list[_Task]]:
        """The wanted samples in their order, each image once.

        wanted: places in the shard; None = all. again: gets the places of those that are put off.
        """
        seen: set[str] = set()
        batch: list[_Task] = []
        for place, sample in enumerate(read_samples(shard)):
            if wanted is not None and place not in wanted:
                continue
            sha256 = hashlib.sha256(sample.image).hexdigest()
            if sha256 in seen:
                again.add(place)
                continue
            seen.add(sha256)
            batch.append(_Task(place, sample, sha256, Described(_texts(sample, SYNTHETIC) if self._add else [])))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _through_prompts(self, tasks: list[_Task]) -> list[_Task]:
        """Ask each prompt in its turn about samples that go together."""
        for card in self._cards:
            open_ = [task for task in tasks if not (task.found.faults and self._failed == "drop")]
            texts = [self._text(card, task) for task in open_]
            keys = [answer_key(task.sha256, card.digest(), text) for task, text in zip(open_, texts, strict=True)]
            known: dict[str, Answer | Fault] = {**self._answers.find(keys)}
            unknown = [(key, task, text) for key, task, text in zip(keys, open_, texts, strict=True) if key not in known]
            known |= self._ask(card, unknown)
            for key, task in zip(keys, open_, strict=True):
                self._take(card, task, known[key])
        return tasks

    def _text(self, card: PromptCard, task: _Task) -> str:
        web, synthetic = _texts(task.sample, WEB)[:1], task.found.captions[:1]
        if SYNTHETIC in card.used() and not synthetic:
            task.found.notes.append(f"{card.name}: without a caption to start from")
        return card.text(plain("".join(web)), "".join(synthetic))

    def _ask(self, card: PromptCard, unknown: list[tuple[str, _Task, str]]) -> dict[str, Answer | Fault]:
        """What the captioner says; its answers are kept, its faults are not."""
        given: dict[str, Answer | Fault] = {}
        questions: dict[str, Question] = {}
        for key, task, text in unknown:
            try:
                questions[key] = asked_with(card, task.sample, text)
            except Fault as fault:
                given[key] = fault
        if questions:
            with self._lock:
                self.number += len(questions)
            said = self._desk.captioner.ask(list(questions.values()))
            said = [replace(one, text=plain(one.text)) if isinstance(one, Answer) else one for one in said]
            given |= zip(questions, said, strict=True)
            if answers := {key: one for key, one in given.items() if isinstance(one, Answer)}:
                self._answers.put(answers)
        return given

    def _take(self, card: PromptCard, task: _Task, given: Answer | Fault) -> None:
        judged = judge(given)
        self._desk.count(f"{card.name}: {given if isinstance(given, Fault) else judged.reason}" if judged.reason else "")
        if judged.reason:
            task.found.faults.append(f"{card.name}: {judged.reason}")
            return
        task.found.captions.append(judged.caption)
        if judged.note:
            task.found.notes.append(f"{card.name}: {judged.note}")


def _texts(sample: Sample, kind: str) -> list[str]:
    """The captions of a kind that a sample has."""
    given = sample.said.get(kind)
    return [text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str) and text.strip()]
