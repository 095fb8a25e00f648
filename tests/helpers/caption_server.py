"""A server on this machine with OpenAI's chat completions, whose captions depend on image and prompt, and which misbehaves as told."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Key = tuple[str, str]  # hex SHA-256 of the image, the prompt


def caption_of(key: Key) -> str:
    """What the server says."""
    number = int(hashlib.sha256("".join(key).encode()).hexdigest(), 16)
    colors, things = ("red", "blue", "green", "white"), ("sofa", "lamp", "table", "plant", "bed")
    return f"A {colors[number % 4]} {things[number // 4 % 5]} no. {number % 9973} in a room."


@dataclass
class CaptionServer:
    """asked, answered: how often for each question. keys: the Authorization headers that came. peak: most requests at a time.

    fault: (question, number of this attempt from 0) -> "" or a status as "429", "reset", or "slow" (no answer before the server ends).
    choice: question -> what a choice holds. error: the body of a status that is no success. headers: of such an answer. together: answer
    only when so many requests are there. latency_s: of each answer.
    """

    address: str
    fault: Callable[[Key, int], str] = lambda key, attempt: ""
    choice: Callable[[Key], dict[str, Any]] = lambda key: {"message": {"content": caption_of(key)}, "finish_reason": "stop"}
    error: Any = field(default_factory=lambda: {"error": {"message": "as the test wishes"}})
    headers: dict[str, str] = field(default_factory=lambda: {"Retry-After": "0"})
    together: threading.Barrier | None = None
    latency_s: float = 0
    asked: Counter[Key] = field(default_factory=Counter)
    answered: Counter[Key] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    peak: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """As --captioner says it."""
        return f"openai:{self.address}/v1#stub"


def _question(body: dict[str, Any]) -> Key:
    image, text = body["messages"][0]["content"]
    data = image["image_url"]["url"].partition(";base64,")[2]
    return hashlib.sha256(base64.b64decode(data, validate=True)).hexdigest(), text["text"]


@contextmanager
def serving(**options: Any) -> Iterator[CaptionServer]:
    lock, under_way = threading.Lock(), 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_POST(self) -> None:
            nonlocal under_way
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = _question(body)
            with lock:
                attempt, server.asked[key] = server.asked[key], server.asked[key] + 1
                server.keys.add(self.headers.get("Authorization", ""))
                server.bodies.append(body)
                under_way += 1
                self.counts = True
                server.peak = max(server.peak, under_way)
            try:
                with suppress(ConnectionError):  # a client that was killed, or waits no longer
                    self._respond(key, server.fault(key, attempt) if self.path == "/v1/chat/completions" else "404")
            finally:
                self._leave()

        def _leave(self) -> None:
            """Whoever has an answer may ask again before this thread goes on."""
            nonlocal under_way
            with lock:
                under_way -= self.counts
                self.counts = False

        def _respond(self, key: Key, fault: str) -> None:
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            elif fault == "slow":
                server.ended.wait(30)
                self.close_connection = True
            elif fault:
                self._send(int(fault), server.error, server.headers)
            else:
                if server.together is not None:
                    server.together.wait(30)
                time.sleep(server.latency_s)
                self._send(200, {"choices": [server.choice(key)]}, {})
                with lock:
                    server.answered[key] += 1

        def _send(self, status: int, answer: Any, headers: dict[str, str]) -> None:
            self._leave()
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    class Http(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    http = Http(("127.0.0.1", 0), Handler)
    server = CaptionServer(f"http://127.0.0.1:{http.server_port}", **options)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        http.server_close()
        thread.join()
