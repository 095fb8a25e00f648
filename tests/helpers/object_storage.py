"""A real S3 server on this machine (moto's), and a proxy before it that fails as networks do."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUCKET, SECRET = "bucket", "tests"
PASSED_ON = ("content-length", "content-type", "content-range", "etag", "last-modified", "accept-ranges")


class FaultyProxy(ThreadingHTTPServer):
    """Hands requests on to `upstream`. Of the reads and writes of shards, every third is answered with 500, cut off, or late, by turns.

    A write that is cut off was done, and its answer is lost. done: how often each of these was done, and "whole" for the answers that came
    as they were.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.done, self.reads, self.lock = urlsplit(upstream), Counter[str](), 0, threading.Lock()

    def turn(self) -> str:
        """What is done with the next read."""
        with self.lock:
            self.reads += 1
            does = ("500", "cut off", "late")[self.reads // 3 % 3] if self.reads % 3 == 0 else "whole"
            self.done[does] += 1
            return does


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"  # clients that send a file wait for its "100 Continue"

    def _pass_on(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        does = self.server.turn() if self.command in ("GET", "PUT") and ".tar" in self.path else "whole"
        if does == "500":
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        upstream = http.client.HTTPConnection(str(self.server.upstream.hostname), self.server.upstream.port)
        try:
            headers = {name: value for name, value in self.headers.items() if name not in ("Connection", "Expect")}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if does == "cut off" and self.command == "PUT":
            self.close_connection = True
            return
        if does == "late":
            time.sleep(0.3)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in PASSED_ON:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if does == "cut off" else content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def faulty_s3(files: list[Path]) -> Iterator[FaultyProxy]:
    """A server with the files in BUCKET; yields the proxy before it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    upstream = f"http://{host}:{port}"
    with closing(http.client.HTTPConnection(host, port)) as reset:  # it keeps what an earlier server of this process was given
        reset.request("POST", "/moto-api/reset")
        assert reset.getresponse().status == 200
    client = boto3.client("s3", endpoint_url=upstream, aws_access_key_id=SECRET, aws_secret_access_key=SECRET, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for path in files:
        client.upload_file(str(path), BUCKET, path.name)
    client.close()
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
        server.stop()
