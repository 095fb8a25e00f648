"""`leaderboard serve`, as strange clients and pages of other sites meet it."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.attacks.frame import Attack, Case, Outcome, call, corpus, meet, seeded
from tests.attacks.mutations import bytes_mutated
from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.serve import SiteServer
from tips_bench.leaderboard.site import build

PORT: list[int] = []
GOOD = b"GET /index.html HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a\r\nAccept: */*\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("board")
    write_record(folder / "results", "a", 0.5, number=8)
    build([folder / "results"], folder / "site")
    (folder / "secret").write_text("secret")
    with SiteServer(folder / "site", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        PORT[:] = [server.server_address[1]]
        yield
        server.shutdown()
        thread.join()


def ask(sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", PORT[0]), timeout=20) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(functools.partial(client.recv, 1 << 16), b""))
        except ConnectionError:  # it had seen enough
            return b""


def prepare(folder: Path, sent: bytes) -> Attack:
    return call(lambda: (folder / "out").write_bytes(ask(sent)))


def nothing_told(outcome: Outcome, folder: Path) -> None:
    """A page goes only to who asks for it by a name of this machine; and the server lives on."""
    said = (folder / "out").read_bytes()
    head = said.split(b"\r\n\r\n")[0]
    assert b"Python" not in said and b"secret" not in said and b"Traceback" not in said and b"Directory listing" not in said
    if said.startswith(b"HTTP/1.0 200"):
        assert b"nosniff" in head and b"Content-Security-Policy" in head
    assert ask(GOOD).startswith(b"HTTP/1.0 200")


def refused(outcome: Outcome, folder: Path) -> None:
    nothing_told(outcome, folder)
    assert not (folder / "out").read_bytes().startswith(b"HTTP/1.0 200")


PATHS = [
    "/..", "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/.%2e/secret", "/..%5csecret", "/....//secret", "//etc/passwd", "/etc/passwd",
    "/static", "/static/", "/static/..", "/models/", "/manifest.json", "/.git/config", "/index.html/", "/index.html/..", "/index.html%00",
    "/%", "/%zz", "/%ff%fe", "/index.html\\", "/INDEX.HTML", "/./index.html", "/a" * 5000, "http://localhost/../secret", "*", "index",
    "file:///etc/passwd", "/\x7f", "/%0d%0aX:%20y", "/~root", "/;/index.html", "/index.html;x", "/con", "/%u002e%u002e/secret",
]  # fmt: skip
HOSTS = [
    "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.1@evil.example", "evil.example#localhost", "127.1", "0.0.0.0",
    "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost.", "localhost:", "localhost:99999999", "localhost evil.example", "", "\xff",
    "localhost,evil.example", "::1", "[::1", "localhost\t.evil.example",
]  # fmt: skip
METHODS = ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "PROPFIND", "G E T", "\x16\x03\x01", "X" * 9000]


def requests() -> list[Case]:
    found = []
    for number, (path, method) in enumerate(product(PATHS, ("GET", "HEAD"))):
        sent = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1", "replace")
        found.append(Case(f"{method} {number} {path[:20]!a}", functools.partial(prepare, sent=sent), check=refused))
    for number, host in enumerate(HOSTS):
        sent = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
        found.append(Case(f"host {number} {host!a}", functools.partial(prepare, sent=sent), check=refused))
    for method in METHODS:
        sent = f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1")
        found.append(Case(f"method {method[:9]!a}", functools.partial(prepare, sent=sent), check=refused))
    for said, sent in bytes_mutated(GOOD, 100, seeded("server", "good")):
        found.append(Case(f"a request {said}", functools.partial(prepare, sent=sent), check=nothing_told))
    return found


@corpus("server", requests())
def test_a_request_gets_a_page_of_the_site_or_nothing(case: Case, arena: Path, capfd: pytest.CaptureFixture[str]) -> None:
    meet(case, arena)
    assert capfd.readouterr().err == ""
