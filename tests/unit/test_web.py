"""Addresses that are none, and servers that hardly say anything."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from tips_bench import fetch as fetching
from tips_bench import web
from tips_bench.errors import UserError
from tips_bench.fetch import fetch


def test_an_answer_whose_head_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_S", 0.1)
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not ended.wait(0.02):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def accept() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    threading.Thread(target=drip, args=(listening.accept()[0],)).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            with pytest.raises(UserError, match="fewer than 6000 bytes came"):
                fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/a", tmp_path / "a.bin", title="a")
        finally:
            ended.set()
            thread.join()


ADDRESSES_OF_NOTHING = [
    "file:///etc/passwd", "ftp://x/y", "a.bin", "http:///x", "", "http://[::1/x", "http://[zz]/x", "http://h:port/x", "http://h:99999/x",
    "http://h/a\0b", "http://h/a b", "http://h/\u00fc", "http://\u00fc.org/a", "http://h/a\nHost: x", "http://h/\ud800",
]  # fmt: skip


@pytest.mark.parametrize("url", ADDRESSES_OF_NOTHING)
def test_an_address_that_is_not_http_is_refused_before_any_work(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="not an http or https address"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["user:secret@127.0.0.1:9", "secret@127.0.0.1:9", "u:se@secret@127.0.0.1:9", "u:secret@[::1"])
def test_a_password_in_an_address_is_refused_and_never_shown(tmp_path: Path, where: str) -> None:
    with pytest.raises(UserError) as error:
        fetch(f"https://{where}/a.bin", tmp_path / "a.bin", title="a")
    assert "secret" not in str(error.value) and "***@" in str(error.value)
