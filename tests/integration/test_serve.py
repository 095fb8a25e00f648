"""The server of a site, as strangers and strange clients meet it."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.leaderboard.serve import SiteServer
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.site_files import MANIFEST, files_of


@contextmanager
def running(site: Path) -> Iterator[int]:
    """The port that a site is served at."""
    with SiteServer(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write_record(folder / "results", "a", 0.5, number=8)
    build([folder / "results"], folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def port(site: Path) -> Iterator[int]:
    with running(site) as port:
        yield port


def ask(port: int, path: str = "/", host: str | None = "localhost", method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def raw(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_every_file_of_the_site_is_sent_with_its_kind_and_the_headers_that_protect_it(site: Path, port: int) -> None:
    for name in files_of(site):
        answer, body = ask(port, f"/{name}")
        assert (answer.status, body) == (200, (site / name).read_bytes())
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    kinds = {name: ask(port, name)[0].headers["Content-Type"] for name in ("/", "/static/style.css", "/static/table.js")}
    assert kinds == {
        "/": "text/html; charset=utf-8",
        "/static/style.css": "text/css; charset=utf-8",
        "/static/table.js": "text/javascript; charset=utf-8",
    }
    assert ask(port)[1] == ask(port, "/index.html?x=1")[1] == (site / "index.html").read_bytes()
    assert ask(port, method="HEAD")[1] == b""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:8000", "LOCALHOST:1", "[::1]:8000"])
def test_a_browser_of_this_machine_is_answered(port: int, host: str) -> None:
    assert ask(port, host=host)[0].status == 200


HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example:8000",
    "",
    "127.0.0.2",
    "localhost:x",
    "a@localhost",
]


@pytest.mark.parametrize("host", [*HOSTS, None])
def test_a_page_that_gives_this_machine_a_name_of_its_own_gets_nothing(port: int, host: str | None) -> None:
    answer, body = ask(port, host=host)
    assert answer.status == 421
    assert b"<main" not in body


def test_two_hosts_are_refused(port: int) -> None:
    assert b" 421 " in raw(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")


def test_no_folder_is_listed_and_nothing_that_came_later_is_sent(site: Path, tmp_path: Path) -> None:
    site = shutil.copytree(site, tmp_path / "site")
    with running(site) as port:
        (site / "later.html").write_text("later")
        (site / "models" / "linked.html").symlink_to("/etc/passwd")
        page = sorted((site / "models").glob("a*.html"))[0]
        page.write_text("changed")
        for path in ("/models/", "/models", "/later.html", "/models/linked.html", f"/models/{page.name}", f"/{MANIFEST}"):
            assert ask(port, path)[0].status == 404, path


PATHS = [
    "/../site/index.html",
    "/%2e%2e/results",
    "//etc/passwd",
    "/..%5c..%5cx",
    "/index.html%00",
    "/.",
    "/%ff",
    "http://[::1/x",
    f"/{'a' * 9000}",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_none_of_the_site_is_not_found(port: int, path: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert b" 404 " in raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert capfd.readouterr().err == ""


BROKEN = [
    b"", b"\r\n", b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: " + b"x" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\xff: a\r\n:\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("sent", BROKEN)
def test_what_is_no_request_ends_without_a_word_on_standard_error(port: int, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    said = raw(port, sent)
    assert b"Python" not in said and b"<main" not in said
    assert ask(port)[0].status == 200
    assert capfd.readouterr().err == ""


def test_neither_python_nor_a_version_is_named(port: int) -> None:
    assert ask(port)[0].headers["Server"] == "tips-bench"


def test_slow_clients_are_let_go_and_do_not_keep_others_out_for_long(
    site: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SiteServer, "seconds", 0.5)
    monkeypatch.setattr(SiteServer, "clients", 4)
    with running(site) as port, ExitStack() as stack:
        started = threading.active_count()
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(12)]
        for client in slow:
            with suppress(OSError):
                client.sendall(b"GET / HT")
        time.sleep(0.2)
        assert threading.active_count() <= started + 2 * 4
        waiting = time.monotonic()
        while True:
            try:
                if ask(port)[0].status == 200:
                    break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() - waiting < 10
                time.sleep(0.05)
    assert capfd.readouterr().err == ""


def test_a_folder_that_is_no_site_or_a_port_that_is_taken_is_one_sentence(site: Path, port: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a site"):
        SiteServer(tmp_path, 0)
    with pytest.raises(UserError, match=re.escape(f"--port: port {port}: Address already in use")):
        SiteServer(site, port)
