"""Downloads from a server that breaks off, changes its mind, lies in its headers, and addresses of nothing."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.frame import Attack, Case, Outcome, call, corpus, meet, seeded
from tests.attacks.mutations import ESCAPE
from tests.integration.broken_server import Server, running
from tips_bench import fetch as fetching
from tips_bench import web

OLD = hashlib.sha256(b"old").digest() * 2000
NEW = hashlib.sha256(b"new").digest() * 2500
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "in chunks": {"chunked": True},
    "without a validator": {"etag": None},
    "with a weak validator": {"etag": 'W/"v1"'},
    "deaf to ranges": {"honours_range": False},
    "deaf to If-Range": {"compares": False},
    "breaking off": {"breaks": [30_000, 1, 20_000]},
    "breaking off at once for ever": {"breaks": [0] * 99},
    "bringing a byte a time": {"breaks": [1] * 99},
    "claiming less": {"length": 1000},
    "claiming more": {"length": 90_000},
    "busy at first": {"statuses": [503, 429]},
    "busy for ever": {"statuses": [503] * 99},
    "busy for a year": {"statuses": [503], "retry_after": "31536000"},
    "refusing": {"statuses": [403]},
    "answering a status that there is not": {"statuses": [299, 399]},
    "answering with part of nothing": {"statuses": [206, 206]},
    "gone from its range": {"statuses": [416, 416, 416, 416]},
    "a web page": {"kind": "text/html"},
    "packed": {"headers": {"Content-Encoding": "gzip"}},
}
PARTS: dict[str, tuple[bytes, Any]] = {
    "no part": (b"", None),
    "a part of this version": (NEW[:20_000], {"validator": '"v1"', "total": len(NEW)}),
    "a part of another version": (OLD[:20_000], {"validator": '"v0"', "total": len(OLD)}),
    "a part that is too long": (NEW + b"more", {"validator": '"v1"', "total": len(NEW)}),
    "a whole part": (NEW, {"validator": '"v1"', "total": len(NEW)}),
    "a part of unknown version": (OLD[:20_000], {"validator": None, "total": None}),
    "a state of the wrong types": (NEW[:9], {"validator": 7, "total": "x"}),
    "a state that injects a header": (NEW[:9], {"validator": "a\r\nHost: b", "total": 5}),
}
KNOWN: dict[str, dict[str, Any]] = {
    "nothing known": {},
    "the hash known": {"sha256": hashlib.sha256(NEW).hexdigest()},
    "the size known": {"size": len(NEW)},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    monkeypatch.setattr(web, "SLOW_S", 0.5)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


SERVER: list[Server] = []


@pytest.fixture(autouse=True)
def _at_hand(server: Server) -> Iterator[None]:
    SERVER.append(server)
    yield
    SERVER.clear()


def prepare(folder: Path, way: str, part: str, known: str) -> Attack:
    options = {name: list(value) if isinstance(value, list) else value for name, value in WAYS[way].items()}
    url = SERVER[0].serve("a.bin", NEW, **options)
    there, state = PARTS[part]
    (folder / "out").mkdir()
    if state is not None:
        (folder / "out" / "a.bin.part").write_bytes(there)
        (folder / "out" / "a.bin.part.json").write_text(json.dumps({"url": url, **state}))
    return call(lambda: fetching.fetch(url, folder / "out" / "a.bin", title="a", **KNOWN[known]))


def whole_or_absent(outcome: Outcome, folder: Path) -> None:
    """A file that arrived is one that the server has; where more is known, the one that is meant."""
    target = folder / "out" / "a.bin"
    assert target.exists() == (outcome.status == 0)
    if target.exists():
        assert target.read_bytes() in (NEW, NEW[:1000])  # a server that claims less sends less


def transfers() -> list[Case]:
    names = list(product(WAYS, PARTS, KNOWN))
    return [
        Case(f"{way}, {part}, {known}", lambda folder, of=(way, part, known): prepare(folder, *of), check=whole_or_absent)
        for way, part, known in names
    ]


@corpus("downloads", transfers())
def test_a_download_is_whole_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


LONG = "9" * 5000
HEADERS = {
    "Content-Length": ["-1", "0x10", LONG, "1e9", "", " 7", "18446744073709551616"],
    "Content-Range": ["bytes 0-1/2", "bytes -1-2/*", f"bytes {LONG}-{LONG}/{LONG}", "pages 1-2/3", "", "bytes"],
    "ETag": ['"', '"' + "x" * 9000 + '"', f'"{ESCAPE}"', '"\x00"', "W/", '"a"b"'],
    "Last-Modified": ["yesterday", ESCAPE, "x" * 9000, "Fri, 31 Dec 9999 23:59:59 GMT"],
    "Content-Type": ["text/html", ESCAPE, ";;;=", "x" * 9000, 'text/plain; charset="\x00"'],
    "Content-Encoding": ["gzip", "br", "identity", "GZIP, gzip", ESCAPE, "x" * 9000],
    "Transfer-Encoding": ["chunked", "gzip", "x"],
    "Retry-After": [LONG, "-1", ESCAPE],
    "Location": ["http://[::1/x", "file:///etc/passwd", "http://u:secret@h/x", ESCAPE, "//", "x" * 9000],
}


def odd_header(folder: Path, name: str, value: str, status: int) -> Attack:
    body = gzip.compress(NEW) if value == "gzip" else NEW
    if status == 302:
        url = SERVER[0].serve("a.bin", body, redirect=value)
    elif status == 200:
        url = SERVER[0].serve("a.bin", body, headers={name: value})
    else:
        url = SERVER[0].serve("a.bin", body, statuses=[status] * 9, retry_after=value)
    return call(lambda: fetching.fetch(url, folder / "out" / "a.bin", title="a"))


def headers() -> list[Case]:
    found = []
    for name, values in HEADERS.items():
        for number, value in enumerate(values):
            status = {"Location": 302, "Retry-After": 503}.get(name, 200)
            case = lambda folder, of=(name, value, status): odd_header(folder, *of)  # noqa: E731
            found.append(Case(f"{name} {number}, {value[:12]!a} of {len(value)}", case))
    return found


@corpus("download headers", headers())
def test_a_header_that_lies_ends_in_a_file_or_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


ADDRESSES = [
    "", " ", "http:", "http://", "http:///x", "http://[", "http://[]/x", "http://[::1/x", "http://[zz]/x", "http://h:x/", "http://h:-1/",
    "http://h:99999/", f"http://h:{LONG}/", "http://h/\0", "http://h\0/x", "http://h/a b", "http://h/\n", "http://h/ü", "http://ü.org/x",
    "http://h/\ud800", "http://" + "a" * 70 + ".org\u00e9/x", f"http://{'a.' * 3000}/x", "HTTP://[::ffff:0:0:0:0:0:1]:9/x", "ftp://h/x",
    "file:///etc/passwd", "data:,x", "javascript:1", "http://u:secret@127.0.0.1:9/x", "http://secret@127.0.0.1:9/x", "http:\\\\h\\x",
    "http://127.0.0.1:9/x", "http://127.0.0.1:0/x", "//h/x", "http://%31%32/x", f"http://h/{'x' * 70_000}", f"http://{ESCAPE}/x",
]  # fmt: skip


def no_secret(outcome: Outcome, folder: Path) -> None:
    assert outcome.status == 2
    assert "secret" not in outcome.err


@corpus(
    "addresses",
    [
        Case(
            f"{number} {url[:30]!a} of {len(url)}",
            lambda folder, url=url: call(lambda: fetching.fetch(url, folder / "out" / "a.bin", title="a")),
            check=no_secret,
        )
        for number, url in enumerate(ADDRESSES)
    ],
)
def test_an_address_of_nothing_is_one_sentence(case: Case, arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_S", 1)
    meet(case, arena)


def noise(folder: Path, name: str) -> Attack:
    """A state beside a part that is any bytes."""
    url = SERVER[0].serve("a.bin", NEW)
    (folder / "out").mkdir()
    (folder / "out" / "a.bin.part").write_bytes(OLD[:20_000])
    (folder / "out" / "a.bin.part.json").write_bytes(seeded("states", name).randbytes(60))
    return call(lambda: fetching.fetch(url, folder / "out" / "a.bin", title="a"))


@corpus(
    "download states",
    [Case(f"noise {n}", lambda folder, n=n: noise(folder, str(n)), statuses=(0,), check=whole_or_absent) for n in range(20)],
)
def test_a_state_of_noise_starts_the_download_over(case: Case, arena: Path) -> None:
    meet(case, arena)
