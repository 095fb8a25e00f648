"""The parts of captioning, one by one: prompts, answers, the cache, calls in flight, the rate of requests."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.shards import picture
from tips_bench.cards import load_card, parse
from tips_bench.cli.app import app
from tips_bench.corpus import caption_cache
from tips_bench.corpus.caption_answers import CUT, Judged, judge, plain
from tips_bench.corpus.caption_cache import AnswerCache, answer_key
from tips_bench.corpus.captioners import server
from tips_bench.corpus.captioners.base import Answer, Fault, Question, asked_with
from tips_bench.corpus.captioners.choose import captioner_identity
from tips_bench.corpus.in_flight import in_flight
from tips_bench.corpus.store import Sample
from tips_bench.errors import UserError
from tips_bench.prompt_card import PromptCard

CARD: dict[str, Any] = {"name": "p", "version": 1, "title": "t", "parts": ["Say it."], "max_tokens": 8}

# Prompts


@pytest.mark.parametrize("name", ["short", "long", "paligemma"])
def test_a_shipped_prompt_says_where_each_value_comes_from(name: str) -> None:
    card = load_card("prompt", name)
    assert {"parts", "max_tokens", "temperature"} <= card.sources.keys() <= PromptCard.model_fields.keys()
    assert card.temperature == 0
    assert all(len(source) > 20 for source in card.sources.values())


def test_a_part_is_left_out_where_what_it_names_is_not_known() -> None:
    card = load_card("prompt", "long")
    whole, web, alone = card.text("Zoo, 2004", "A panda."), card.text("Zoo, 2004", ""), card.text("", "")
    assert "Zoo, 2004" in whole and "A panda." in whole
    assert "Zoo, 2004" in web and "A panda." not in web
    assert alone == card.parts[0]
    assert card.used() == {"web", "synthetic"} and load_card("prompt", "paligemma").text("Zoo", "") == "caption en"


def test_a_web_caption_is_cut_and_what_looks_like_a_name_in_it_stays() -> None:
    card = parse(PromptCard, CARD | {"parts": ["Say it.", "{web}"], "web_characters": 20}, where="p")
    assert card.text("{synthetic} and more and more", "x") == "Say it.\n\n{synthetic} and more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": ["{web}"]}, "one part that names nothing"),
        ({"parts": ["Say it.", "{alt}"]}, r"parts name \{alt\}; they may name \{web\} and \{synthetic\}"),
        ({"max_token": 3}, "no key named 'max_token'"),
        ({"max_tokens": 0}, "greater than 0"),
    ],
)
def test_a_wrong_card_is_a_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(PromptCard, CARD | change, where="p.yaml")


def test_the_hash_of_a_prompt_is_of_what_decides_the_caption() -> None:
    def hashed(**change: Any) -> str:
        return parse(PromptCard, CARD | change, where="p").digest()

    assert hashed() == hashed(name="q", version=2, title="u", sources={"parts": "ours"})
    others = [hashed(parts=["Say that."]), hashed(max_tokens=9), hashed(temperature=0.5), hashed(max_side=64), hashed(web_characters=9)]
    assert len({hashed(), *others}) == 6


# Answers


@pytest.mark.parametrize(
    ("answer", "judged"),
    [
        (Answer(" A red\n sofa. "), Judged("A red sofa.")),
        (Answer(" \n"), Judged(reason="empty")),
        (Answer("I\u2019m sorry, but I can't help with that."), Judged(reason="refused")),
        (Answer("I cannot describe people."), Judged(reason="refused")),
        (Answer("<think>A sofa?\nYes.</think>\n\nA sofa."), Judged("A sofa.")),
        (Answer("<think>A sofa? Or", cut=True), Judged(reason="empty")),
        (Answer("I can see a sofa."), Judged("I can see a sofa.")),
        (Answer("Sorry! We're closed, says a sign."), Judged("Sorry! We're closed, says a sign.")),
        (Answer('A sign says "Hi." It is 3.5 m wi', cut=True), Judged('A sign says "Hi."', note=CUT)),
        (Answer("A red sofa beside", cut=True), Judged(reason="too long")),
        (Fault("status 400", "too many pixels"), Judged(reason="status 400")),
    ],
)
def test_an_answer_becomes_a_caption_or_a_reason(answer: Answer | Fault, judged: Judged) -> None:
    assert judge(answer) == judged


def test_a_caption_can_be_written_as_utf8() -> None:
    assert plain("a\x00b \ud83d c\x1b[1m").encode() == b"a b ? c [1m"


# The cache


@pytest.mark.parametrize("largest", [0, 1 << 22])
def test_answers_are_found_by_the_process_that_wrote_them_and_by_all_that_open_the_folder_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(caption_cache, "LARGEST_NEWS", largest)
    keys = [answer_key(f"{number:064x}", "card", "Say it.") for number in range(3)]
    both = {keys[0]: Answer("a"), keys[1]: Answer("b\u2028\n", cut=True)}
    with AnswerCache(tmp_path) as first, AnswerCache(tmp_path) as beside:
        first.put(both)
        assert first.find(keys) == both and not beside.find(keys)
        with AnswerCache(tmp_path) as later:
            assert later.find(keys) == both
            later.put({keys[2]: Answer("c")})
            first.put({keys[2]: Answer("c")})
    for _ in range(2):
        with AnswerCache(tmp_path) as last:
            assert last.find([*keys, "00" * 16]) == both | {keys[2]: Answer("c")}
    assert len(list(tmp_path.glob("*.sqlite"))) == (2 if largest == 0 else 0)


def test_a_line_that_a_killed_process_left_is_no_answer_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_cache, "LARGEST_NEWS", 0)
    first, second, third = (answer_key(f"{number:064x}", "card", "") for number in range(3))
    with AnswerCache(tmp_path) as cache:
        cache.put({first: Answer("a")})
    (journal,) = tmp_path.glob("*.jsonl")
    whole = f'{{"key": "{second}", "text": "b", "cut": false}}\n'.encode()
    with journal.open("ab") as file:
        file.write(whole[:20])
    for _ in range(2):
        with AnswerCache(tmp_path) as cache:
            assert cache.find([first, second]) == {first: Answer("a")}
    assert len(list(tmp_path.glob("*.sqlite"))) == 1
    with journal.open("ab") as file:  # it was not killed, but seen in the middle of a line
        file.write(whole[20:] + b'{"key": "zz", "text": 1}\nnot json\n[]\n' + f'{{"key": "{third}", "text": "c", "cut": false}}\n'.encode())
    with AnswerCache(tmp_path) as cache:
        assert cache.find([first, second, third]) == {first: Answer("a"), second: Answer("b"), third: Answer("c")}


def test_many_segments_become_few_and_lose_nothing_while_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_cache, "LARGEST_NEWS", 0)
    answers = {answer_key(f"{number:064x}", "card", ""): Answer(f"a red sofa no. {number}") for number in range(60)}
    with AnswerCache(tmp_path) as early:
        for number, (key, answer) in enumerate(answers.items()):
            with AnswerCache(tmp_path) as cache:
                cache.put({key: answer})
            if number == 10:
                early.put({key: answer})
        assert len(early.find(answers)) == 1
    with AnswerCache(tmp_path) as late:
        assert late.find(answers) == answers
    assert len(list(tmp_path.glob("*.sqlite"))) < 2 * caption_cache.MERGED


def test_a_process_has_one_journal_and_a_line_that_a_full_disk_cut_harms_no_later_one(tmp_path: Path) -> None:
    answers = {answer_key(f"{number:064x}", "card", ""): Answer(f"no. {number}") for number in range(3)}
    for key, answer in answers.items():
        with AnswerCache(tmp_path) as cache:
            cache.put({key: answer})
        (journal,) = tmp_path.glob("*.jsonl")
        with journal.open("ab") as file:
            file.write(b'{"key": "00')
    with AnswerCache(tmp_path) as cache:
        assert cache.find(answers) == answers


def test_segments_that_another_process_merges_meanwhile_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_cache, "LARGEST_NEWS", 0)
    with AnswerCache(tmp_path) as cache:
        cache.put({"00" * 16: Answer("a")})
    with AnswerCache(tmp_path):
        pass
    listed = iter([[tmp_path / "segment-gone.sqlite"]])
    real = caption_cache._segments
    monkeypatch.setattr(caption_cache, "_segments", lambda folder: next(listed, None) or real(folder))
    with AnswerCache(tmp_path) as cache:
        assert cache.find(["00" * 16]) == {"00" * 16: Answer("a")}
    assert caption_cache._merge(tmp_path, [*real(tmp_path), tmp_path / "segment-gone.sqlite"]) is False
    assert len(real(tmp_path)) == 1


def test_more_keys_than_a_query_holds_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_cache, "AT_ONCE", 3)
    answers = {answer_key(f"{number:064x}", "card", ""): Answer(str(number)) for number in range(11)}
    monkeypatch.setattr(caption_cache, "LARGEST_NEWS", 0)
    with AnswerCache(tmp_path) as cache:
        cache.put(answers)
    with AnswerCache(tmp_path) as cache:
        assert cache.find([*answers, "00" * 16]) == answers


def test_a_broken_segment_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "segment-0.sqlite").write_bytes(b"no table" * 100)
    with pytest.raises(UserError, match=r"segment-0\.sqlite: it cannot be read .* Delete it"):
        AnswerCache(tmp_path)


def test_the_key_depends_on_image_card_and_prompt() -> None:
    assert len({answer_key(*parts) for parts in [("a", "b", "c"), ("A", "b", "c"), ("a", "B", "c"), ("a", "b", "C"), ("ab", "", "c")]}) == 5


# Calls in flight


def test_so_many_calls_are_under_way_and_no_more_items_are_taken_than_soon_needed() -> None:
    barrier, taken = threading.Barrier(4, timeout=20), []

    def items() -> Any:
        for number in range(40):
            taken.append(number)
            yield number

    def call(number: int) -> int:
        barrier.wait()  # of four at a time
        return number

    results = in_flight(call, items(), 4)
    first = next(results)
    assert len(taken) <= 9
    assert sorted([first, *results]) == list(range(40))


def test_the_first_error_ends_the_calls() -> None:
    called: list[int] = []

    def call(number: int) -> int:
        called.append(number)
        if number == 3:
            raise UserError("no")
        return number

    with pytest.raises(UserError, match="no"):
        list(in_flight(call, range(10_000), 2))
    assert len(called) < 100


# The rate


class Clock:
    """A clock that sleeping alone moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(server.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(server.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_requests_begin_evenly_and_not_while_the_server_wants_to_be_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, begun = Clock(monkeypatch), []
    gate = server.Gate(30)
    for number in range(5):
        if number == 3:
            gate.pause(60)
        gate.wait()
        begun.append(clock.now - 1000)
    assert begun == [0, 2, 4, 64, 66]


def test_a_request_that_waited_when_a_pause_began_waits_for_its_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = Clock(monkeypatch), server.Gate(30)
    gate.wait()
    monkeypatch.setattr(server.time, "sleep", lambda seconds: (clock.sleep(seconds), gate.pause(60) if clock.now < 1010 else None))
    gate.wait()
    assert clock.now == 1062


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), (" 0.5 ", 0.5), ("soon", None), (None, None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("-3", None)]
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert server._wait_s(text) == seconds


# Captioners and prompts by name


def test_prompts_are_listed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "tips-bench-cards" / "prompts"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("name: mine\nversion: 1\ntitle: Mine\nparts: [Say it.]\nmax_tokens: 8\n")
    listed = CliRunner().invoke(app, ["list", "prompts"]).output.splitlines()
    assert [line.split()[0] for line in listed] == ["name", "long", "mine", "paligemma", "short"]
    assert "\nmax_tokens: 8\n" in CliRunner().invoke(app, ["show", "mine"]).output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openai", r"'openai' is not complete\. Write openai:http://HOST:PORT/v1#MODEL"),
        ("openai:http://host:8000/v1", "no model is named"),
        ("openai:host:8000#m", "is not an http or https address"),
        ("openai:http://me:secret@host/v1#m", r"holds a user name or password"),
        ("pixels:all", "Write pixels"),
        ("opnai", "Did you mean 'openai'"),
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("json:nothing", "json has no 'nothing'"),
        ("hf:/", "the folder has no config.json"),
    ],
)
def test_a_wrong_captioner_is_a_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        captioner_identity(name)
    assert "secret" not in str(error.value)


def test_the_name_of_a_machine_is_not_part_of_whose_captions_they_are() -> None:
    assert captioner_identity("openai:http://a:1/v1#org/m") == captioner_identity("openai:https://b/v1/#org/m") == "openai#org/m"


def test_a_changed_function_is_another_captioner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("said_once", "said_twice"):
        Path(f"{module}.py").write_text(f"def f(questions):\n    return {module!r}\n")
    names = {captioner_identity("said_once:f"), captioner_identity("said_twice:f")}
    assert len(names) == 2 and all(len(name.partition("@")[2]) == 16 for name in names)


# What a captioner sees


def test_an_image_goes_as_it_is_or_smaller_or_turned() -> None:
    import io

    from PIL import Image

    def seen(image: bytes, **change: Any) -> Question:
        return asked_with(parse(PromptCard, CARD | change, where="p"), Sample("k", image, "png", {}), "Say it.")

    image = picture(0, "png", (48, 40))
    assert seen(image) == Question(image, "png", "Say it.", 8) == seen(image, max_side=48)
    smaller = seen(image, max_side=24)
    assert smaller.extension == "jpg" and smaller.picture().size == (24, 20)
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.open(io.BytesIO(image)).save(turned, "png", exif=exif)
    assert seen(turned.getvalue()).extension == "jpg" and seen(turned.getvalue()).picture().size == (40, 48)
    with pytest.raises(Fault, match="broken image"):
        seen(b"no image")
