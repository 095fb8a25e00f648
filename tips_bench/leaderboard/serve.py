"""A site shown to the browsers of this machine, and to nothing else.

Only loopback names are answered to, so that no page elsewhere can read the site under a name of its own (DNS rebinding); only what the
site's manifest lists is sent, as it was built; a client that is slow, or one too many, is let go.
"""

from __future__ import annotations

import contextlib
import mimetypes
import re
import socket
import sys
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tips_bench.errors import UserError
from tips_bench.leaderboard.site_files import hash_at, intact, read_manifest
from tips_bench.terminal import one_line

ADDRESS = "127.0.0.1"
# A host as a browser names it: any port, since a tunnel may have another one here.
OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
CLIENTS = 32  # at a time
SECONDS = 20.0  # for a whole request and its answer
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".html": "text/html; charset=utf-8"}


class SiteServer(ThreadingHTTPServer):
    """Serves the folder of a site. Errors: no site there; a port that is taken."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, site: Path, port: int) -> None:
        intact(site)
        self._free = threading.BoundedSemaphore(CLIENTS)
        try:
            super().__init__((ADDRESS, port), partial(_Handler, site))
        except OSError as error:
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
        timer = threading.Timer(SECONDS, _hang_up, [request])
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


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS

    def __init__(self, site: Path, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        content = self._content()
        if content is not None:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._content()

    def _content(self) -> bytes | None:
        """Sends the head of the answer; what is to follow, None after an error."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not OWN_HOST.fullmatch(hosts[0].strip()):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to localhost only")
            return None
        name = unquote(self.path.partition("?")[0]).lstrip("/") or "index.html"
        content = _read(self.site, name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND, "the site has no such page")
            return None
        suffix = Path(name).suffix
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """The Server header: no version, of this or of Python."""
        return "tips-bench"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed for each request."""


def _read(site: Path, name: str) -> bytes | None:
    """A file of the site as it was built; None for any other, for one that was changed or is a link, and while a site is replaced."""
    try:
        manifest = read_manifest(site)
        if manifest is None or name not in manifest.files or hash_at(site, name) != manifest.files[name]:
            return None
        return (site / name).read_bytes()
    except (OSError, UserError):
        return None
