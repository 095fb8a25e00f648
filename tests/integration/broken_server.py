"""An HTTP server on this machine that misbehaves as it is told: the other side of the download tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """One file and how it is served.

    breaks: after how many bytes of the answer to break off, one number a request, then never. length: the Content-Length claimed for the
    whole file. statuses: answers to give first. redirect: where to send the client. headers: to send along.
    stall: after how many bytes the first answer stops without an end. compares: whether it heeds If-Range. retry_after: goes with statuses.
    drip_s: seconds from each byte to the next.
    """

    content: bytes
    etag: str | None = '"v1"'
    kind: str = "application/octet-stream"
    breaks: list[int] = field(default_factory=list)
    length: int | None = None
    honours_range: bool = True
    compares: bool = True
    retry_after: str = "0"
    statuses: list[int] = field(default_factory=list)
    redirect: str | None = None
    stall: int | None = None
    drip_s: float = 0
    chunked: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)


class Server:
    """files: path -> Served. missing: headers of the answer to any other path."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Served] = {}
        self.missing: dict[str, str] = {}
        self.released = threading.Event()

    def serve(self, name: str, content: bytes = b"", **options: Any) -> str:
        """The address of a new file."""
        self.files[f"/{name}"] = Served(content, **options)
        return f"{self.address}/{name}"

    def requests(self, name: str) -> list[dict[str, str]]:
        return self.files[f"/{name}"].requests


@contextmanager
def running() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            served = server.files.get(self.path)
            if served is None:
                self._head(404, {"Content-Length": "0", **server.missing})
                return
            served.requests.append(dict(self.headers))
            if served.statuses:
                self._head(served.statuses.pop(0), {"Content-Length": "0", "Retry-After": served.retry_after})
            elif served.redirect:
                self._head(302, {"Location": served.redirect, "Content-Length": "0"})
            else:
                self._send(served)

        def do_HEAD(self) -> None:
            self.close_connection = True
            served = server.files.get(self.path)
            headers = {} if served is None else served.headers | {"ETag": served.etag or "", "Content-Length": str(len(served.content))}
            self._head(404 if served is None else 200, headers if served else {"Content-Length": "0", **server.missing})

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, served: Served) -> None:
            total = len(served.content) if served.length is None else served.length
            headers = {"Content-Type": served.kind} | served.headers | ({"ETag": served.etag} if served.etag else {})
            start, wanted = 0, self.headers.get("Range")
            same = not served.compares or self.headers.get("If-Range", served.etag) == served.etag
            if wanted and served.honours_range and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total > 0 and wanted:
                self._head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
                return
            body = served.content[start:]
            if served.breaks:
                body = body[: served.breaks.pop(0)]
            if served.chunked:
                self._head(200, headers | {"Transfer-Encoding": "chunked"})
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                return
            headers["Content-Length"] = str(total - start)
            if start:
                headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            self._head(206 if start else 200, headers)
            # A client that has seen enough hangs up.
            with suppress(ConnectionError):
                if served.stall is not None:
                    self.wfile.write(body[: served.stall])
                    served.stall = None
                    server.released.wait(30)
                    return
                if served.drip_s:
                    for number in range(len(body)):
                        self.wfile.write(body[number : number + 1])
                        if server.released.wait(served.drip_s):
                            return
                self.wfile.write(body)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        http.shutdown()
        http.server_close()
        thread.join()
