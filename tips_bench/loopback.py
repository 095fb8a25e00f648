"""A small server for the browsers of this machine.

Only names that no page elsewhere can point at this machine are answered to (DNS rebinding): loopback names, and, where a server listens
on another address because it was asked to, addresses in numbers. A client that is slow, or one too many, is let go.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tips_bench.errors import UserError
from tips_bench.terminal import one_line

ADDRESS = "127.0.0.1"
# A host as a browser names it: any port, since a tunnel may have another one here.
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
IN_NUMBERS = re.compile(r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d{1,5})?", re.IGNORECASE)


class LocalServer(ThreadingHTTPServer):
    """Answers each request in a thread of its own. Errors: an address or a port that cannot be taken.

    clients: at a time. seconds: for a whole request and its answer.
    """

    daemon_threads = True
    block_on_close = False
    clients: ClassVar[int] = 32
    seconds: ClassVar[float] = 20.0

    def __init__(self, handler: Any, port: int, *, address: str = ADDRESS) -> None:
        self.hosts = (
            OWN_HOST if address in (ADDRESS, "localhost") else re.compile(f"{OWN_HOST.pattern}|{IN_NUMBERS.pattern}", re.IGNORECASE)
        )
        self._free = threading.BoundedSemaphore(self.clients)
        try:
            super().__init__((address, port), handler)
        except (OSError, UnicodeError) as error:
            if isinstance(error, UnicodeError | socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise UserError(
                    f"{address!r} is not an address of this machine",
                    where="--host",
                    fix="Give one that is, in numbers: 127.0.0.1, or 0.0.0.0 for all.",
                ) from error
            raise UserError(f"port {port}: {error.strerror}", where="--port", fix="Choose another port, or 0 for any free one.") from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, where one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        timer = threading.Timer(self.seconds, _hang_up, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was let go, is nothing to tell; anything else is told in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(one_line(f"tips-bench: a request was not answered: {error!r}"), file=sys.stderr)


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class LocalHandler(BaseHTTPRequestHandler):
    """What the answers of a `LocalServer` have in common. policy: the Content-Security-Policy of every answer."""

    timeout = LocalServer.seconds
    policy: ClassVar[str] = "default-src 'none'"
    server: LocalServer

    def is_called_by_own_name(self) -> bool:
        """Whether the request names this machine; otherwise an error has been sent."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) == 1 and self.server.hosts.fullmatch(hosts[0].strip()):
            return True
        self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to localhost only")
        return False

    def send_head(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """The head of an answer. kind: its Content-Type."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def end_headers(self) -> None:
        headers = {
            "Content-Security-Policy": self.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-cache",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """The Server header: no version, of this or of Python."""
        return "tips-bench"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for each request."""
