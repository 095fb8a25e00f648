"""Captions for a corpus: from a server that fails in many ways and from functions, by several processes, stopped and started again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.helpers.caption_server import CaptionServer, Key, caption_of, serving
from tests.helpers.shards import picture
from tips_bench.cards import load_card
from tips_bench.cli.app import app
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.captioners import server as requests
from tips_bench.corpus.captioners.base import Pace
from tips_bench.corpus.store import Manifest, Sample, load_manifest, read_samples, write_shard
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.prompt_card import PromptCard
from tips_bench.training.captions import read_captions

ROOT = Path(__file__).resolve().parents[2]
BOTH = (load_card("prompt", "short"), load_card("prompt", "long"))
SHORT = BOTH[:1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requests, "BACKOFF_S", 0.001)
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def raw(folder: Path, shards: int = 2, samples: int = 8, same: int = 0, **said: Any) -> Path:
    """A corpus without synthetic captions. same: so many samples at the end of each shard have the image of its first."""
    for shard in range(shards):
        numbers = [shard * samples + number for number in range(samples)]
        images = {number: picture(numbers[0] if number in numbers[samples - same :] else number) for number in numbers}
        write_shard(
            folder / f"{shard:05d}.tar",
            [Sample(f"{number:06d}", images[number], "jpg", {"web": f"web {number}", "url": "u", **said}) for number in numbers],
        )
    return folder


def contents(folder: Path) -> dict[str, str]:
    """What a corpus is made of, each file's hash."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in [*folder.glob("*.tar"), folder / "corpus.json"]}


def synthetic(folder: Path) -> list[list[str]]:
    return [sample.said.get("synthetic", []) for path in sorted(folder.glob("*.tar")) for sample in read_samples(path)]


def only(samples: Iterator[Sample]) -> Sample:
    (one,) = samples
    return one


# A server


def test_each_prompt_gives_a_caption_and_the_rest_of_a_sample_stays(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", shards=1, samples=1)
    before = only(read_samples(source / "00000.tar"))
    with serving() as server:
        manifest, asked = caption(source, tmp_path / "out", Wish(server.name, BOTH))
    sha256 = hashlib.sha256(before.image).hexdigest()
    short = caption_of((sha256, BOTH[0].text("web 0", "")))
    long = caption_of((sha256, BOTH[1].text("web 0", short)))
    after = only(read_samples(tmp_path / "out" / "00000.tar"))
    assert (after.key, after.image, after.said) == (before.key, before.image, before.said | {"synthetic": [short, long]})
    trained_on = read_captions({"json": json.dumps(after.said).encode()}, ["web", "synthetic"])
    assert (trained_on.web, trained_on.synthetic) == (["web 0"], [short, long])
    assert asked == 2 and [body["max_tokens"] for body in server.bodies] == [64, 192]
    assert all(body["model"] == "stub" and body["temperature"] == 0 for body in server.bodies)
    (step,) = manifest.steps
    assert (step.name, step.samples, step.dropped, step.notes) == ("caption", 1, {}, {})
    assert step.settings["captioner"] == "openai#stub"
    assert [(one["name"], one["version"]) for one in step.settings["prompts"]] == [("short", 1), ("long", 1)]


def test_statuses_resets_and_slow_answers_change_no_caption_and_nothing_is_answered_twice(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", shards=2, samples=14)

    def misbehave(key: Key, attempt: int) -> str:
        kinds = ("429", "500", "reset", "503", "slow", "", "529")
        return kinds[int(key[0][:8], 16) % 7] if attempt < 1 + int(key[0][8], 16) % 3 else ""

    with serving() as server:
        caption(source, tmp_path / "calm", Wish(server.name, BOTH), cache=tmp_path / "one")
    with serving(fault=misbehave) as server:
        caption(source, tmp_path / "rough", Wish(server.name, BOTH), cache=tmp_path / "two", pace=Pace(timeout_s=0.5))
        assert set(server.answered.values()) == {1} and len(server.answered) == 56
        assert sum(server.asked.values()) > 70
    assert contents(tmp_path / "calm") == contents(tmp_path / "rough")


def test_as_many_requests_as_allowed_are_there_at_a_time(tmp_path: Path) -> None:
    with serving(together=threading.Barrier(6)) as server:
        caption(raw(tmp_path / "raw", 1, 24), tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=6))
    assert server.peak == 6


def test_what_was_asked_is_not_asked_again_for_another_folder_or_a_further_prompt(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw")
    with serving() as server:
        caption(source, tmp_path / "short", Wish(server.name, SHORT))
        assert caption(source, tmp_path / "both", Wish(server.name, BOTH))[1] == 16
        assert caption(source, tmp_path / "again", Wish(server.name, BOTH))[1] == 0
        assert caption(source, tmp_path / "again", Wish(server.name, BOTH))[1] == 0
        assert set(server.asked.values()) == {1} and len(server.asked) == 32
    assert contents(tmp_path / "both") == contents(tmp_path / "again")


def test_an_image_that_comes_again_is_asked_about_once(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 1, 10, same=4)
    (source / "00001.tar").write_bytes((source / "00000.tar").read_bytes())
    with serving() as server:
        caption(source, tmp_path / "out", Wish(server.name, BOTH))
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 6 + 10  # the long prompt holds the web caption, which each sample has of its own
    captions = synthetic(tmp_path / "out")
    assert {captions[0][0]} == {one[0] for one in captions[6:10]}


def test_a_key_is_sent_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    source = raw(tmp_path / "raw", 1, 2)
    with serving() as server:
        caption(source, tmp_path / "out", Wish(server.name, SHORT))
        assert server.keys == {"Bearer sk-very-secret"}
        server.fault, server.error = lambda key, attempt: "401", {"error": {"message": "Wrong key: sk-very-secret.\nSee there."}}
        with pytest.raises(UserError, match=r"answered 401: Wrong key: \*\*\*\. Check the address") as error:
            caption(source, tmp_path / "second", Wish(server.name, BOTH))
        assert "sk-very-secret" not in str(error.value)
        server.error = {"error": {"message": "x" * 190 + "sk-very-secret"}}
        with pytest.raises(UserError, match=r"answered 401: x+\*\*\*\.") as error:
            caption(source, tmp_path / "third", Wish(server.name, BOTH[1:], add=True))
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret\nor")
        with pytest.raises(UserError, match=r"\$OPENAI_API_KEY: it holds a space") as error:
            caption(source, tmp_path / "fourth", Wish(server.name, BOTH), pace=Pace(at_once=2))
        assert "secret" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"sk-very-secret" in path.read_bytes()]


# Faults


def odd(*kinds: str) -> Callable[[Key], dict[str, Any]]:
    """Answers of several kinds in turn, told by the image."""
    numbers = {hashlib.sha256(picture(number)).hexdigest(): number for number in range(64)}
    given = {
        "": {"message": {"content": "A red sofa."}, "finish_reason": "stop"},
        "empty": {"message": {"content": None}, "finish_reason": "stop"},
        "refused": {"message": {"content": "I'm sorry, I can't help with that."}, "finish_reason": "stop"},
        "filter": {"message": {"content": "A"}, "finish_reason": "content_filter"},
        "cut": {"message": {"content": "A red sofa. A lamp is besi"}, "finish_reason": "length"},
        "long": {"message": {"content": "A red sofa and a lamp besi"}, "finish_reason": "length"},
        "strange": {"text": "A red sofa."},
        "parts": {"message": {"content": [{"type": "text", "text": "A red sofa."}]}, "finish_reason": "stop"},
    }
    return lambda key: given[kinds[numbers[key[0]] % len(kinds)]]


KINDS = ("", "empty", "refused", "filter", "cut", "long", "strange", "parts")
COUNTED = {"short: empty": 1, "short: no completion as an answer": 1, "short: refused": 2, "short: too long": 1}


def test_samples_without_a_caption_are_dropped_and_counted(tmp_path: Path) -> None:
    with serving(choice=odd(*KINDS)) as server:
        manifest, _ = caption(raw(tmp_path / "raw", 1, 8), tmp_path / "out", Wish(server.name, SHORT))
    assert manifest.steps[0].dropped == COUNTED and manifest.steps[0].notes == {"short: cut to whole sentences": 1}
    assert synthetic(tmp_path / "out") == [["A red sofa."]] * 3
    assert [sample.key for sample in read_samples(tmp_path / "out" / "00000.tar")] == ["000000", "000004", "000007"]
    named = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [one["name"] for one in named] == [f"00000.tar/{number:06d}" for number in (1, 2, 3, 5, 6)]
    assert Counter(one["reason"] for one in named) == COUNTED and set(named[0]) == {"name", "reason", "detail"}


def test_licenses_are_those_of_the_samples_that_stay(tmp_path: Path) -> None:
    samples = [Sample(f"{n}", picture(n), "jpg", {"web": "a room", "license": ("CC0-1.0", "MIT")[n % 2]}) for n in range(8)]
    write_shard(tmp_path / "raw" / "0.tar", samples)
    with serving(choice=odd("", "refused")) as server:  # every other one, the first of them stays
        manifest, _ = caption(tmp_path / "raw", tmp_path / "out", Wish(server.name, SHORT))
    left = Counter(sample.said["license"] for sample in read_samples(tmp_path / "out" / "0.tar"))
    assert manifest.steps[0].licenses == dict(left) and sum(left.values()) == 4
    assert json.loads((tmp_path / "out" / "croissant.json").read_text())["license"] == sorted(left)


def test_samples_without_a_caption_are_kept_if_asked_for(tmp_path: Path) -> None:
    with serving(choice=odd(*KINDS)) as server:
        manifest, _ = caption(raw(tmp_path / "raw", 1, 8), tmp_path / "out", Wish(server.name, SHORT, "keep"))
    assert manifest.steps[0].dropped == {} and manifest.steps[0].notes == COUNTED | {"short: cut to whole sentences": 1}
    assert [len(one) for one in synthetic(tmp_path / "out")] == [1, 0, 0, 0, 1, 0, 0, 1]


def test_a_sample_that_will_be_dropped_is_asked_no_further_and_one_that_stays_is(tmp_path: Path) -> None:
    with serving(choice=odd("", "refused")) as server:
        manifest, asked = caption(raw(tmp_path / "raw", 1, 8), tmp_path / "drop", Wish(server.name, BOTH))
        assert asked == 12 and manifest.steps[0].dropped == {"short: refused": 4}
        manifest, _ = caption(raw(tmp_path / "raw", 1, 8), tmp_path / "keep", Wish(server.name, BOTH, "keep"))
    notes = {"long: refused": 4, "long: without a caption to start from": 4, "short: refused": 4}
    assert manifest.steps[0].notes == notes


@pytest.mark.parametrize("refused", [("max_tokens",), ("max_tokens", "temperature"), ("temperature",)])
def test_a_server_that_refuses_older_values_is_asked_without_them(refused: tuple[str, ...], tmp_path: Path) -> None:
    with serving() as server:

        def fault(key: Any, attempt: int) -> str:
            left = [name for name in refused if name in server.bodies[-1]]
            server.error = {"error": {"message": f"Unsupported parameter: '{left[0]}' is not supported with this model."}} if left else {}
            return "400" if left else ""

        server.fault = fault
        manifest, _ = caption(raw(tmp_path / "raw", 1, 3), tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=1))
        assert not set(refused) & set(server.bodies[-1])
        assert server.bodies[-1].get("max_tokens", server.bodies[-1].get("max_completion_tokens")) == SHORT[0].max_tokens
        assert sum(server.asked.values()) == 3 + len(refused)
    assert manifest.steps[0].samples == 3


def test_an_answer_that_is_no_json_is_asked_for_again(tmp_path: Path) -> None:
    with serving(fault=lambda key, attempt: "200" if attempt < 2 else "", error="<html>") as server:
        caption(raw(tmp_path / "raw", 1, 3), tmp_path / "out", Wish(server.name, SHORT))
    assert set(server.asked.values()) == {3}


def test_a_captioner_that_fails_for_all_ends_the_run_and_the_command_goes_on_later(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 2, 8)
    with serving(fault=lambda key, attempt: "400") as server:
        with pytest.raises(UserError, match=r"gave 5 images in a row no caption; the last: short: status 400: as the test wishes"):
            caption(source, tmp_path / "out", Wish(server.name, SHORT), give_up=5, pace=Pace(at_once=1))
        assert 5 <= sum(server.asked.values()) <= 8 and not list((tmp_path / "out").glob("*.tar"))
        server.fault = lambda key, attempt: ""
        manifest, _ = caption(source, tmp_path / "out", Wish(server.name, SHORT), give_up=5)
    assert manifest.steps[0].samples == 16


def test_not_a_single_caption_is_a_sentence_even_without_giving_up(tmp_path: Path) -> None:
    with serving(choice=odd("empty")) as server, pytest.raises(UserError, match=r"no image got a caption \(16 short: empty\)"):
        caption(raw(tmp_path / "raw"), tmp_path / "out", Wish(server.name, SHORT), give_up=0)
    assert not (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.parametrize(
    ("status", "headers", "error", "message"),
    [
        ("404", {}, {"detail": "no model named stub"}, "answered 404: no model named stub"),
        ("302", {"Location": "http://elsewhere/"}, {}, "answered 302"),
        ("429", {}, {"error": {"message": "no credit left", "code": "insufficient_quota"}}, "answered 429: no credit left"),
        ("503", {"Retry-After": "7200"}, {}, r"asks to wait 7200 s"),
    ],
)
def test_what_no_other_image_would_get_past_ends_the_run(
    tmp_path: Path, status: str, headers: dict[str, str], error: Any, message: str
) -> None:
    with serving(fault=lambda key, attempt: status, headers=headers, error=error) as server:
        with pytest.raises(UserError, match=message):
            caption(raw(tmp_path / "raw", 1, 3), tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=1))
        assert sum(server.asked.values()) <= 2


def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/v1/chat/completions cannot be reached: .* goes on where it stopped"):
        caption(raw(tmp_path / "raw", 1, 1), tmp_path / "out", Wish("openai:http://127.0.0.1:9/v1#stub", SHORT))


# Other captioners and settings


def test_a_function_gets_questions_and_gives_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = "None if one.picture().getpixel((0, 0))[0] < 40 else f'{len(questions)} {one.text}'"
    code = f"def say(questions):\n    return [{told} for one in questions]\n"
    Path("my_words.py").write_text(code)
    prompt = PromptCard(name="p", version=1, title="t", parts=["Say it."], max_tokens=9)
    manifest, _ = caption(raw(tmp_path / "raw", 1, 10), tmp_path / "out", Wish("my_words:say", (prompt,)), pace=Pace(batch=5))
    assert {text for one in synthetic(tmp_path / "out") for text in one} == {"5 Say it."}
    assert manifest.steps[0].dropped == {"p: none returned": 10 - manifest.steps[0].samples}
    for name, body, message in (
        ("fails", "1 / 0", r"fails:say: called with 1 questions, it raised ZeroDivisionError"),
        ("few", "[]", "it returned 0 captions for 1 questions"),
        ("other", "[3]", "it returned a int as a caption"),
    ):
        Path(f"{name}.py").write_text(f"def say(questions):\n    return {body}\n")
        with pytest.raises(UserError, match=message):
            caption(raw(tmp_path / "one", 1, 1), tmp_path / name, Wish(f"{name}:say", (prompt,)))


def test_captions_come_in_place_of_synthetic_ones_or_behind_them(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 1, 2, synthetic=["A sofa."])
    caption(source, tmp_path / "instead", Wish("pixels", SHORT))
    caption(source, tmp_path / "behind", Wish("pixels", BOTH[1:], add=True))
    instead, behind = synthetic(tmp_path / "instead"), synthetic(tmp_path / "behind")
    assert behind == [["A sofa.", *one] for one in instead] and all(one[0].startswith("A picture in ") for one in instead)


def test_a_prompt_made_from_a_caption_needs_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'long' is made from another caption of the image\. Name a prompt before it"):
        caption(raw(tmp_path / "raw", 1, 1), tmp_path / "out", Wish("pixels", BOTH[1:]))
    with pytest.raises(UserError, match="'short' is named twice"):
        caption(raw(tmp_path / "raw", 1, 1), tmp_path / "out", Wish("pixels", SHORT * 2))


def test_other_settings_or_another_source_are_refused_in_a_folder_that_has_begun(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 1, 2)
    caption(source, tmp_path / "out", Wish("pixels", SHORT))
    for other in (Wish("pixels", SHORT, "keep"), Wish("pixels", BOTH)):
        with pytest.raises(UserError, match="made in another way"):
            caption(source, tmp_path / "out", other)
    with pytest.raises(UserError, match="made in another way"):
        caption(raw(tmp_path / "more", 2, 2), tmp_path / "out", Wish("pixels", SHORT))


def test_steps_of_before_stay_in_the_manifest(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 1, 2)
    caption(source, tmp_path / "one", Wish("pixels", SHORT))
    manifest, _ = caption(tmp_path / "one", tmp_path / "two", Wish("pixels", BOTH[1:], add=True))
    assert [step.settings["add"] for step in manifest.steps] == [False, True]
    assert load_manifest(tmp_path / "two") == manifest and isinstance(manifest, Manifest)


# Processes


def command(source: Path, target: Path, server: CaptionServer, *more: str) -> subprocess.Popen[bytes]:
    line = ["corpus", "caption", str(source), "--to", str(target), "--captioner", server.name, "--at-once", "4", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "tips_bench", *line], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_killed_and_taken_up_by_two_processes_it_asks_nothing_again_that_was_answered(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", shards=4, samples=20)
    with serving() as calm:
        caption(source, tmp_path / "whole", Wish(calm.name, BOTH), cache=tmp_path / "other")
    with serving(latency_s=0.02) as server:
        first = command(source, tmp_path / "out", server)
        deadline = time.monotonic() + 120
        while sum(server.answered.values()) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert first.stdout is not None
        first.stdout.close()
        assert 60 <= sum(server.answered.values()) < 160
        for process in [command(source, tmp_path / "out", server) for _ in range(2)]:
            out, _ = process.communicate(timeout=240)
            assert process.returncode == 0, out.decode()
        assert len(server.answered) == 160
        assert sum(server.asked.values()) <= 160 + 4  # those that were under way when it was killed
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.nightly
def test_another_executor_gives_the_same_bytes(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", shards=2, samples=6)
    with serving() as server:
        caption(source, tmp_path / "here", Wish(server.name, BOTH), cache=tmp_path / "one")
        caption(source, tmp_path / "there", Wish(server.name, BOTH), cache=tmp_path / "two", chosen=Chosen("local", {}, 2))
        assert set(server.answered.values()) == {2}
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_the_command_says_what_was_dropped(tmp_path: Path) -> None:
    line = ["corpus", "caption", str(raw(tmp_path / "raw", 1, 8)), "--to", str(tmp_path / "out"), "--prompt", "short"]
    with serving(choice=odd("", "refused")) as server:
        done = CliRunner().invoke(app, [*line, "--captioner", server.name])
        assert (done.exit_code, done.output.splitlines()) == (
            0,
            [
                f"{tmp_path / 'out'}: 4 images with captions in 1 shard; the captioner was asked 8 times",
                "  dropped: 4  short: refused",
            ],
        )
    done = CliRunner().invoke(app, [*line, "--captioner", "nobody:"])
    assert done.exit_code == 2 and "there is no captioner named 'nobody'" in done.output
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["steps"][0]["dropped"] == {"short: refused": 4}
