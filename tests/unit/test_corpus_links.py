"""Links: which are followed, what stops a fetch, and which image is the one of the list. The program that fetches is played here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tips_bench.corpus.filters import Limits, beyond_text
from tips_bench.corpus.sources import links
from tips_bench.corpus.sources.base import Found
from tips_bench.corpus.sources.links import Manner
from tips_bench.errors import UserError

REFUSED = "<urlopen error [Errno 111] Connection refused>"


class Server:
    """Stands for img2dataset. problems: what it says of links; all others lead to their own name as bytes."""

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems, self.asked = problems, list[str]()

    def __call__(self, asked: list[str], manner: Manner, folder: Path) -> tuple[dict[int, bytes], dict[int, str]]:
        self.asked += asked
        problems = {number: self.problems[link] for number, link in enumerate(asked) if link in self.problems}
        return {number: link.encode() for number, link in enumerate(asked) if number not in problems}, problems


def read(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[Any, dict[str, Any]]], problems: dict[str, str] | None = None, **more: Any
) -> tuple[list[Found], list[str]]:
    server, limits = Server(problems or {}), more.pop("limits", Limits())
    monkeypatch.setattr(links, "_fetched", server)
    found = links.read(lambda said: beyond_text(said, limits), Manner(**more).model_dump(mode="json"), rows)
    return list(found), server.asked


def test_links_of_samples_that_go_for_their_text_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("http://a/0", {"web": "a red chair"}), ("http://a/1", {"web": "no"}), ("ftp://a/2", {}), ("http://a/3", {"web": "a lamp"})]
    found, asked = read(monkeypatch, rows, limits=Limits(shortest_text=4))
    assert asked == ["http://a/0", "http://a/3"]
    assert [(one.name, one.fault, one.image) for one in found] == [
        ("http://a/0", "", b"http://a/0"),
        ("http://a/1", "text too short", b""),
        ("ftp://a/2", "no http or https address", b""),
        ("http://a/3", "", b"http://a/3"),
    ]


def test_an_image_that_is_not_the_stated_one_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = hashlib.sha256(b"http://a/0").hexdigest()
    stated = [own.upper(), own, "", "?", None]
    found, _ = read(monkeypatch, [(f"http://a/{number}", {"sha256": one}) for number, one in enumerate(stated)])
    assert [one.fault for one in found] == ["", "not the stated image", "", "", ""]
    assert found[1].detail == f"sha256 {hashlib.sha256(b'http://a/1').hexdigest()}" and not found[1].image


GONE = [(f"http://a/{number}", {}) for number in range(25)]


@pytest.mark.parametrize("said", ["HTTP Error 404: Not Found", "HTTP Error 503: Service Unavailable", "Use of image disallowed"])
def test_servers_that_answer_never_end_a_fetch(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    found, _ = read(monkeypatch, GONE, {link: said for link, _ in GONE})
    assert [(one.fault, one.detail) for one in found] == [("not fetched", said)] * 25


@pytest.mark.parametrize(
    "said",
    [
        REFUSED,
        "<urlopen error [Errno -3] Temporary failure in name resolution>",
        "<urlopen error [Errno -2] Name or service not known>",
        "<urlopen error [Errno 101] Network is unreachable>",
        "<urlopen error [Errno 113] No route to host>",
        "<urlopen error timed out>",
        "<urlopen error [Errno 8] nodename nor servname provided, or not known>",
    ],
)
def test_a_fault_of_the_network_ends_it_with_a_way_out(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    problems = {link: said for link, _ in GONE}
    with pytest.raises(UserError, match=r"not one of 25 links leads to a server .*Check the network of this machine.*--give-up 0"):
        read(monkeypatch, GONE, problems)
    for more in ({"give_up": 0}, {"give_up": 26}):
        assert {one.fault for one in read(monkeypatch, GONE, problems, **more)[0]} == {"not fetched"}
    for better in ({}, {"http://a/7": "HTTP Error 410: Gone"}):  # one server is enough
        some = {link: text for link, text in problems.items() if link != "http://a/7"} | better
        assert len(read(monkeypatch, GONE, some)[0]) == 25


def test_a_name_that_the_program_would_take_for_something_else_is_refused() -> None:
    for word in ("12", "two words", "None", "a:b", ""):
        with pytest.raises(UserError, match=r"--user-agent: .* is no name of a program"):
            Manner(user_agent=word).check()
    Manner(user_agent="my-lab_bot2").check()
