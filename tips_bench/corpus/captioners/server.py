"""One request to a server, tried again while that may help, and no more of them in a minute than allowed.

Statuses and Retry-After: RFC 9110, sections 10.2.3 and 15; 429: RFC 6585, section 4.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tips_bench.corpus.captioners.base import Fault
from tips_bench.errors import UserError
from tips_bench.fetch import first_line
from tips_bench.web import Deadline, opener, shown

ATTEMPTS = 6  # of one request; each waits about twice as long as the one before
LIMITED = 100  # times that one request is told that there are too many
BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
LONGEST_WAIT_S = 600.0  # that a server may ask for
LARGEST_ANSWER = 1 << 22  # bytes
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # 529: overloaded, as some servers say
OF_THE_IMAGE = {400, 413, 415, 422}
OUT_OF_CREDIT = "insufficient_quota"  # a 429 that no waiting helps
WHERE = "--captioner"


class _Again(Exception):
    """An attempt that failed in a way that may pass. reason: as a fault's. status: of the answer, 0 = none. wait_s: as the server asks."""

    def __init__(self, reason: str, detail: str, status: int = 0, wait_s: float | None = None) -> None:
        super().__init__(detail)
        self.reason, self.status, self.wait_s = reason, status, wait_s


class _Unreachable(_Again):
    """No connection at all."""


class Gate:
    """Lets requests of all threads begin: evenly, no more than so many a minute, and none while the server wants to be left alone."""

    def __init__(self, per_minute: float | None) -> None:
        self._apart_s = 60 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = self._paused = 0.0  # of time.monotonic

    def wait(self) -> None:
        """Until the next request may begin."""
        while True:
            with self._lock:
                begin = max(time.monotonic(), self._next, self._paused)
                self._next = begin + self._apart_s
            while (left := begin - time.monotonic()) > 0:
                time.sleep(left)
            if begin >= self._paused:  # else the server asked for a pause meanwhile
                return

    def pause(self, seconds: float) -> None:
        """No request begins for so long."""
        with self._lock:
            self._paused = max(self._paused, time.monotonic() + seconds)


class Server:
    """Takes JSON, gives JSON. key: sent as a bearer token, shown in no message; "" = none. Safe for several threads."""

    def __init__(self, url: str, key: str, gate: Gate, timeout_s: float) -> None:
        self._url, self._key, self._gate, self._timeout_s = url, key, gate, timeout_s
        self._has_answered = False

    def post(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The answer. Errors: Fault where this request gets none; UserError where no other would get one."""
        body = json.dumps(asked).encode()
        failures = limited = 0
        while True:
            self._gate.wait()
            try:
                return self._attempt(body)
            except _Again as error:
                failures, limited = failures + (error.status != 429), limited + (error.status == 429)
                if failures == ATTEMPTS or limited == LIMITED:
                    raise self._given_up(error) from error
                self._before_another(error, max(failures, limited))

    def _given_up(self, error: _Again) -> Exception:
        if isinstance(error, _Unreachable) and not self._has_answered:
            fix = "Start the server. The same command goes on where it stopped."
            return UserError(f"{shown(self._url)} cannot be reached: {error}", where=WHERE, fix=fix)
        return Fault(error.reason, str(error), kind="passing")

    def _before_another(self, error: _Again, attempts: int) -> None:
        if not error.wait_s:
            # Not all threads should come back at once.
            time.sleep(min(LONGEST_BACKOFF_S, BACKOFF_S * 2 ** (attempts - 1)) * random.uniform(0.5, 1.0))
            return
        if error.wait_s > LONGEST_WAIT_S:
            problem = f"{shown(self._url)} asks to wait {error.wait_s:.0f} s ({error})"
            raise UserError(problem, where=WHERE, fix="The same command goes on where it stopped.") from error
        self._gate.pause(error.wait_s)

    def _attempt(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "tips-bench"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        with Deadline(self._timeout_s) as deadline:
            try:
                # followed redirects would carry the key to another host
                with opener(WHERE, deadline, redirects=False).open(request, timeout=self._timeout_s) as response:
                    data = response.read(LARGEST_ANSWER)
            except urllib.error.HTTPError as error:
                raise self._refusal(error) from error
            except urllib.error.URLError as error:
                raise self._no_connection(error.reason, deadline) from error
            except (OSError, http.client.HTTPException) as error:
                raise self._broken(error, deadline) from error
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise _Again("no JSON as an answer", "it did not answer in JSON") from error
        if not isinstance(answer, dict):
            raise _Again("no JSON as an answer", "it did not answer with an object")
        self._has_answered = True
        return answer

    def _no_connection(self, reason: object, deadline: Deadline) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return UserError(f"{shown(self._url)} cannot be trusted: {first_line(reason)}", where=WHERE, fix="Check the address.")
        if isinstance(reason, ConnectionRefusedError | socket.gaierror):
            return _Unreachable("no connection", first_line(reason))
        return self._broken(reason, deadline)

    @staticmethod
    def _broken(error: object, deadline: Deadline) -> _Again:
        if deadline.stalled or isinstance(error, TimeoutError):
            return _Again("timed out", "it did not answer in time")
        return _Again("connection lost", first_line(error))

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What a status that is no success means: try again, leave this image, or give up."""
        said, code = self._said(error)
        if error.code in PASSING and code != OUT_OF_CREDIT:
            return _Again(f"status {error.code}", said, error.code, _wait_s(error.headers.get("Retry-After")))
        if error.code in OF_THE_IMAGE:
            return Fault(f"status {error.code}", said)
        fix = "Check the address, the name of the model, and the key in the environment."
        return UserError(f"{shown(self._url)} answered {error.code}: {said}", where=WHERE, fix=fix)

    def _said(self, error: urllib.error.HTTPError) -> tuple[str, str]:
        """(what the server says in words, its name for the error), without the key."""
        try:
            with error:
                found = json.loads(error.read(LARGEST_ANSWER))
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            found = {}
        inner = found.get("error", found) if isinstance(found, dict) else {}
        values = inner if isinstance(inner, dict) else {"message": inner}
        said = str(values.get("message") or values.get("detail") or error.reason)
        code = str(values.get("code") or values.get("type") or "")
        return first_line(said.replace(self._key, "***") if self._key else said), code


def _wait_s(text: str | None) -> float | None:
    """Seconds from a Retry-After header, which states a number of them or a date; None where there is none."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
