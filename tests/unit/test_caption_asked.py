"""Which questions a shard leads to: copies, captioners that fail for a while or for some images, keys that no shard may have."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shards import picture
from tips_bench.cards import load_card
from tips_bench.corpus import caption_asked, caption_desk
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.caption_asked import ROUNDS, Asked, Described, Failed
from tips_bench.corpus.caption_cache import AnswerCache
from tips_bench.corpus.caption_desk import Desk
from tips_bench.corpus.captioners.base import Answer, Fault, Pace, Question
from tips_bench.corpus.store import Sample, read_samples, write_shard
from tips_bench.errors import UserError
from tips_bench.prompt_card import PromptCard

SHORT, LONG = load_card("prompt", "short"), load_card("prompt", "long")
PICTURES = [picture(number) for number in range(40)]
TRIAL = -1
Say = Callable[[int, int], Answer | Fault]


class Stub:
    """Says of the image with a number what `say(number, how often it was asked about)` gives. asked: the numbers; TRIAL is the desk's."""

    batch = 1

    def __init__(self, say: Say, at_once: int) -> None:
        self.say, self.at_once, self.asked = say, at_once, list[int]()

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        numbers = [PICTURES.index(one.image) if one.image in PICTURES else TRIAL for one in questions]
        self.asked += numbers
        return [self.say(number, self.asked.count(number)) for number in numbers]


class Clock:
    """A clock that sleeping alone moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(caption_desk.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(caption_desk.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def shard_of(folder: Path, numbers: Sequence[int], web: Callable[[int], str] = lambda place: "web") -> Path:
    samples = [Sample(f"{place:06d}", PICTURES[number], "jpg", {"web": web(place)}) for place, number in enumerate(numbers)]
    write_shard(folder / "0.tar", samples)
    return folder / "0.tar"


def asked_about(
    shard: Path, say: Say, cards: Sequence[PromptCard] = (SHORT,), failed: Failed = "drop", at_once: int = 4, **desk: Any
) -> tuple[list[Described], Stub]:
    stub = Stub(say, at_once)
    with AnswerCache(shard.parent / "answers") as answers:
        of_desk = Desk("stub", stub, **{"patience_s": 600.0, "give_up": 20, **desk})  # type: ignore[arg-type]
        return Asked(of_desk, cards, answers, failed, add=False).all(shard), stub


def well(number: int, time: int) -> Answer:
    return Answer(f"A sofa no. {number}.")


def lost(detail: str = "") -> Fault:
    return Fault("status 503", detail, kind="passing")


# Copies


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each time that questions are looked for in a shard."""
    found: list[Path] = []

    def read(shard: Path) -> Iterator[Sample]:
        found.append(shard)
        return read_samples(shard)

    monkeypatch.setattr(caption_asked, "read_samples", read)
    return found


@pytest.mark.parametrize("at_once", [1, 16])
def test_of_many_copies_one_is_asked_about_and_the_shard_is_read_once(tmp_path: Path, reads: list[Path], at_once: int) -> None:
    found, stub = asked_about(shard_of(tmp_path, [0] * 300 + [1]), well, at_once=at_once)
    assert [one.captions for one in found] == [["A sofa no. 0."]] * 300 + [["A sofa no. 1."]]
    assert sorted(stub.asked) == [0, 1] and len(reads) == 1


@pytest.mark.parametrize("refusal", [Answer("I'm sorry, I can't help with that."), Fault("status 400", "too large")])
def test_copies_of_a_refused_image_count_as_one_image(tmp_path: Path, refusal: Answer | Fault) -> None:
    shard = shard_of(tmp_path, [*[0] * 21, 1])
    for _ in range(2):  # the second time, the refusal is known or asked for once more
        found, stub = asked_about(shard, lambda number, time: refusal if number == 0 else well(number, time), give_up=2)
        assert [bool(one.faults) for one in found] == [True] * 21 + [False]
        assert stub.asked.count(0) <= 1


def test_copies_with_captions_of_their_own_count_as_one_image_too(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, [0] * 30, web=lambda place: f"web {place}")
    found, stub = asked_about(shard, lambda number, time: Fault("status 400"), (LONG,), "keep", give_up=2)
    assert len(stub.asked) == 30 and all(one.faults == ["long: status 400"] for one in found)


def test_an_image_that_lacks_several_captions_is_one_in_a_row(tmp_path: Path) -> None:
    def say(number: int, time: int) -> Answer | Fault:
        return Fault("status 400") if number < 3 else well(number, time)

    shard = shard_of(tmp_path, range(5))
    assert sum(bool(one.faults) for one in asked_about(shard, say, (SHORT, LONG), "keep", at_once=1, give_up=4)[0]) == 3
    with pytest.raises(UserError, match="gave 3 images in a row no caption; the last: long: status 400"):
        asked_about(shard_of(tmp_path / "other", range(5)), say, (SHORT, LONG), "keep", at_once=1, give_up=3)


def test_known_refusals_and_broken_images_are_not_laid_to_the_captioner(tmp_path: Path) -> None:
    shard = shard_of(tmp_path, range(10))
    asked_about(shard, lambda number, time: Answer(""), give_up=0)
    found, stub = asked_about(shard, well, give_up=2)
    assert not stub.asked and all(one.faults == ["short: empty"] for one in found)
    samples = [Sample(f"{place}", b"no image %d" % place, "jpg", {}) for place in range(10)]
    write_shard(tmp_path / "broken" / "0.tar", samples)
    found, stub = asked_about(tmp_path / "broken" / "0.tar", well, give_up=2)
    assert not stub.asked and all(one.faults == ["short: broken image"] for one in found)


def test_who_waits_for_the_answer_of_another_gets_its_error_too(tmp_path: Path) -> None:
    def say(number: int, time: int) -> Answer:
        raise UserError("wrong key")

    with pytest.raises(UserError, match="wrong key"):
        asked_about(shard_of(tmp_path, [0] * 20), say)


# Outages


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_outage_of_minutes_costs_no_image(tmp_path: Path, clock: Clock, at_once: int) -> None:
    begun = clock.now

    def say(number: int, time: int) -> Answer | Fault:
        return lost() if number not in range(5) and clock.now < begun + 300 else well(number, time)

    found, stub = asked_about(shard_of(tmp_path, range(40)), say, at_once=at_once)
    assert [one.captions for one in found] == [[f"A sofa no. {number}."] for number in range(40)]
    assert 300 <= clock.now - begun < 400
    assert sum(number != TRIAL for number in stub.asked) <= 40 + 3 * at_once  # while it fails, it is left alone


def test_an_outage_without_end_is_a_sentence_and_the_answers_of_before_are_kept(tmp_path: Path, clock: Clock) -> None:
    shard, begun = shard_of(tmp_path, range(20)), clock.now
    with pytest.raises(UserError, match=r"stub has given no answer for [\d.]+ minutes; the last fault: status 503.*same command again"):
        asked_about(shard, lambda number, time: well(number, time) if number in range(5) else lost(), at_once=1)
    assert 600 <= clock.now - begun < 700
    found, stub = asked_about(shard, well)
    assert sorted(stub.asked) == list(range(5, 20)) and not any(one.faults for one in found)


def test_a_process_waits_once_for_an_outage_not_for_each_shard(tmp_path: Path, clock: Clock) -> None:
    stub = Stub(lambda number, time: lost(), 4)
    desk = Desk("stub", stub, 600.0, 20)  # type: ignore[arg-type]
    taken = []
    for name in "ab":
        begun, asked = clock.now, len(stub.asked)
        with AnswerCache(tmp_path / "answers") as answers, pytest.raises(UserError, match="has given no answer"):
            Asked(desk, [SHORT], answers, "drop", add=False).all(shard_of(tmp_path / name, range(20)))
        taken.append((clock.now - begun, len(stub.asked) - asked))
    assert taken[0][0] >= 600 and taken[1] == (caption_desk.FIRST_WAIT_S, 1)


def test_a_server_that_works_for_the_trial_only_is_given_up(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(UserError, match="gave 20 images in a row no caption; the last: short: status 503: as always"):
        asked_about(shard_of(tmp_path, range(40)), lambda number, time: Answer("Gray.") if number == TRIAL else lost("as always"))


def test_a_server_that_comes_and_goes_without_an_answer_for_any_image_is_given_up(tmp_path: Path, clock: Clock) -> None:
    def say(number: int, time: int) -> Answer | Fault:
        return Answer("Gray.") if number == TRIAL and time % 2 == 0 else lost()

    with pytest.raises(UserError, match="stub has given no answer for"):
        asked_about(shard_of(tmp_path, range(40)), say)


@pytest.mark.parametrize("at_once", [1, 4])
def test_an_image_that_a_captioner_fails_at_while_it_works_is_left_out_after_some_rounds(
    tmp_path: Path, clock: Clock, at_once: int
) -> None:
    bad = {3, 7, 8, 39}
    say: Say = lambda number, time: lost() if number in bad else well(number, time)  # noqa: E731
    found, stub = asked_about(shard_of(tmp_path, range(40)), say, (SHORT, LONG), at_once=at_once, give_up=4)
    assert {place for place, one in enumerate(found) if one.faults == ["short: status 503"]} == bad
    assert all(len(one.captions) == 2 for place, one in enumerate(found) if place not in bad)
    assert {stub.asked.count(number) for number in bad} == {ROUNDS}
    assert {number for number, times in Counter(stub.asked).items() if times == 2} == set(range(40)) - bad


def test_a_longer_prompt_waits_for_the_short_caption_that_it_is_made_from(tmp_path: Path, clock: Clock) -> None:
    say: Say = lambda number, time: lost() if number == 0 and time == 1 else well(number, time)  # noqa: E731
    found, _ = asked_about(shard_of(tmp_path, [0, 1]), say, (SHORT, LONG), "keep")
    assert [(len(one.captions), one.notes, one.faults) for one in found] == [(2, [], [])] * 2


# Keys


def tar_of(path: Path, names: Sequence[str]) -> Path:
    files = path.parent / "files"
    files.mkdir(parents=True)
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            (files / f"{number}").write_bytes(PICTURES[number])
            tar.add(files / f"{number}", name)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["./000001.jpg", "./000002.jpg", "./000003.jpg"],
        ["train/0001.jpg", "val/0001.jpg", "000002.jpg"],
        ["a.b/1.jpg", "1.jpg", "1.5.jpg"],
        ["1.jpg", "2.txt", "1.png"],
    ],
)
def test_keys_that_no_shard_may_have_become_places_and_are_kept_as_origin(tmp_path: Path, names: list[str]) -> None:
    source = tar_of(tmp_path / "raw" / "old.tar", names)
    before = list(read_samples(source))
    caption(source.parent, tmp_path / "out", Wish("pixels", (SHORT,)), cache=tmp_path / "answers", pace=Pace(batch=2))
    after = list(read_samples(tmp_path / "out" / "old.tar"))
    assert [one.image for one in after] == [one.image for one in before] and after
    assert [one.key for one in after] == [f"{place:06d}" for place in range(len(before))]
    assert [one.said["origin"] for one in after] == [f"old.tar/{one.key}" for one in before]


def test_keys_that_a_shard_may_have_stay(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "raw" / "old.tar", ["b.jpg", "a 1.jpg", "000002.jpg"])
    caption(source.parent, tmp_path / "out", Wish("pixels", (SHORT,)), cache=tmp_path / "answers")
    after = list(read_samples(tmp_path / "out" / "old.tar"))
    assert [one.key for one in after] == ["b", "a 1", "000002"] and not any("origin" in one.said for one in after)
