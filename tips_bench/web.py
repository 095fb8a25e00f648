"""Addresses and connections over http and https: what is asked for, what is followed, and when one is too slow."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import urllib.request
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from tips_bench.errors import UserError

SLOW_S = 60.0
SLOWEST = 6_000  # bytes that each SLOW_S must bring
MAX_NAME = 200
LONGEST_SHOWN = 300  # characters


def check_url(url: str, title: str) -> None:
    """Errors: anything but an http or https address in ASCII; one with a user name or password, which would not be sent.

    title: what the address is of, for the error.
    """
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{shown(url)!r} is not an http or https address", where=title)
    if "@" in parts.netloc:
        fix = "Remove them, and fetch a file that needs them by hand."
        raise UserError(f"the address {shown(url)!r} holds a user name or password", where=title, fix=fix)
    if re.search(r"[^!-~]", url):
        fix = "Write such characters as %XX, and a host's name as xn--..."
        raise UserError(
            f"{shown(url)!a} is not an http or https address: it holds a space or a character beyond ASCII", where=title, fix=fix
        )


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None where its host or port is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def without_password(url: str) -> str:
    """An address to print: what http(s) has before the host and the password of any other scheme are shown as `***`."""
    url = re.sub(r"(?i)\b(https?:/*)[^/\\\s?#]*@", r"\1***@", url)
    return re.sub(r"(\w://[^/\s:@]*):[^/\s]*@", r"\1:***@", url)


def shown(url: str) -> str:
    """An address for a sentence: without a password, and not too long."""
    url = without_password(url)
    return url if len(url) <= LONGEST_SHOWN else f"{url[:LONGEST_SHOWN]}..."


def file_name(url: str, title: str) -> str:
    """The name of the file at an address. Errors: none, a hidden one, one that a file system may refuse."""
    parts = _split(url)
    name = unquote(parts.path).rpartition("/")[2] if parts else ""
    if not name or name.startswith(".") or len(name.encode(errors="replace")) > MAX_NAME or not name.isprintable() or "\ufffd" in name:
        raise UserError(f"{shown(url)!r} does not end in a file name", where=title)
    return name


class Watch:
    """Shuts a connection that brings fewer than SLOWEST bytes in each SLOW_S seconds, whatever it waits for.

    got: bytes so far, counted by the one who reads. stalled: whether it was shut.
    """

    def __init__(self) -> None:
        self.got = 0
        self.stalled = False
        self._connection: socket.socket | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def sees(self, connection: socket.socket) -> None:
        """Watch this one from now on."""
        self._connection = connection

    def _run(self) -> None:
        before = 0
        while not self._ended.wait(SLOW_S):
            if self.got - before < SLOWEST:
                self._shut()
            before = self.got

    def _shut(self) -> None:
        if self._connection is not None:
            self.stalled = True
            with contextlib.suppress(OSError):
                # the plain one: an SSL socket's own would take from the reader what it is reading with
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


class Deadline(Watch):
    """Shuts a connection after so many seconds, whatever it has brought by then: for an answer that is short and may take its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def _run(self) -> None:
        if not self._ended.wait(self._seconds):
            self._shut()


class _Watched(urllib.request.AbstractHTTPHandler):
    """Tells a watch of each connection. What stands before a class of urllib's handlers."""

    watch: Watch

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        watch = self.watch

        class Connection(http_class):
            def connect(self) -> None:
                super().connect()
                watch.sees(self.sock)

        return super().do_open(Connection, req, **options)


class _Http(_Watched, urllib.request.HTTPHandler):
    pass


class _Https(_Watched, urllib.request.HTTPSHandler):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https down to http."""

    def __init__(self, title: str) -> None:
        self.title = title

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except BaseException:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, self.title)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise UserError(f"{shown(req.full_url)} redirects to the unencrypted address {shown(newurl)}", where=self.title)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(title: str, watch: Watch, *, redirects: bool = True) -> urllib.request.OpenerDirector:
    """An opener that knows http and https alone: no file, no ftp, no data addresses. title: for its errors.

    redirects: whether they are followed, with all that the request carries; otherwise they are answers like other errors.
    """
    http, https = _Http(), _Https()
    http.watch = https.watch = watch
    found = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        http,
        https,
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        *([_Redirects(title)] if redirects else []),
    ):
        found.add_handler(handler)
    return found
