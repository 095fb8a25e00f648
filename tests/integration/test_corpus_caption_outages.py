"""Captions from a server that fails for a while, or for some images only."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.helpers.caption_server import Key, serving
from tests.helpers.shards import picture
from tips_bench.cards import load_card
from tips_bench.corpus import caption_desk
from tips_bench.corpus.caption import Wish, caption
from tips_bench.corpus.caption_asked import ROUNDS
from tips_bench.corpus.captioners import server as requests
from tips_bench.corpus.captioners.base import Fault, Pace
from tips_bench.corpus.captioners.openai import OpenAiCaptioner
from tips_bench.corpus.store import Sample, write_shard
from tips_bench.errors import UserError

SHORT = (load_card("prompt", "short"),)
IMAGES = [picture(number) for number in range(24)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requests, "BACKOFF_S", 0.001)
    monkeypatch.setattr(caption_desk, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(caption_desk, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def raw(folder: Path, samples: int) -> Path:
    write_shard(folder / "0.tar", [Sample(f"{number:06d}", IMAGES[number], "jpg", {"web": "web"}) for number in range(samples)])
    return folder


@pytest.mark.parametrize(("status", "reason"), [("400", "status 400"), ("500", "status 500"), ("reset", "connection lost")])
def test_an_image_that_the_server_always_fails_at_is_dropped(tmp_path: Path, status: str, reason: str) -> None:
    first = hashlib.sha256(IMAGES[0]).hexdigest()
    with serving(fault=lambda key, attempt: status if key[0] == first else "") as server:
        manifest, _ = caption(raw(tmp_path / "raw", 3), tmp_path / "out", Wish(server.name, SHORT))
        assert max(server.asked.values()) == (1 if status == "400" else requests.ATTEMPTS * ROUNDS)
    assert manifest.steps[0].dropped == {f"short: {reason}": 1} and manifest.steps[0].samples == 2


@pytest.mark.parametrize("status", ["502", "reset"])
def test_a_server_that_fails_for_longer_than_a_request_is_tried_costs_no_image(tmp_path: Path, status: str) -> None:
    failed = 0

    def fault(key: Key, attempt: int) -> str:
        nonlocal failed
        down = sum(server.answered.values()) >= 4 and failed < 20 * requests.ATTEMPTS
        failed += down
        return status if down else ""

    with serving(fault=fault) as server:
        manifest, _ = caption(raw(tmp_path / "raw", 24), tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=4))
    assert manifest.steps[0].dropped == {} and manifest.steps[0].samples == 24


def test_an_outage_that_outlasts_the_patience_ends_the_command_which_then_goes_on(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw", 24)
    with serving() as server:
        server.fault = lambda key, attempt: "503" if sum(server.answered.values()) >= 4 else ""
        with pytest.raises(UserError, match=r"has given no answer for .* minutes; the last fault: status 503: as the test wishes"):
            caption(source, tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=2, patience_s=0.05))
        assert not list((tmp_path / "out").glob("*.tar"))
        server.fault = lambda key, attempt: ""
        manifest, asked = caption(source, tmp_path / "out", Wish(server.name, SHORT), pace=Pace(at_once=2, patience_s=0.05))
    assert manifest.steps[0].samples == 24 and asked <= 20


def test_a_server_that_goes_away_is_waited_for_if_it_has_answered_before() -> None:
    with serving() as server:
        captioner = OpenAiCaptioner(server.name.partition(":")[2], Pace())
        question = caption_desk._trial()
        assert not isinstance(captioner.ask([question])[0], Fault)
    (gone,) = captioner.ask([question])
    assert isinstance(gone, Fault) and gone.kind == "passing"
