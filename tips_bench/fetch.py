"""Downloads that are whole, checked, and taken up again after a break.

A file grows as `NAME.part`, with what is known of it in `NAME.part.json`, and is renamed once its size and hash are right. Where no
SHA-256 is published, the one of the first download is kept in `NAME.sha256` and compared at every later use. Range, If-Range and
Content-Range: RFC 9110, sections 13.1.5 and 14.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import random
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock

from tips_bench import files
from tips_bench.errors import UserError
from tips_bench.progress import bar

TIMEOUT_S = 30
# Attempts in a row that may bring no new byte; each waits twice as long as the one before.
ATTEMPTS = 5
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
PIECE = 1 << 18
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_AGENT = "tips-bench"


class _Broken(Exception):
    """An interruption after which another attempt may succeed. wait_s: the delay that the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass
class _Known:
    """What is known of a file while it grows. validator: a strong ETag or a date: tells the server's versions apart."""

    url: str
    validator: str | None = None
    total: int | None = None


def fetch(url: str, target: Path, *, size: int | None = None, sha256: str | None = None, md5: str | None = None, title: str) -> Path:
    """Bring `url` to `target`, or check the file that is there already; returns `target`.

    size in bytes and hashes in hex, where published. title: what the progress bar and the errors call it.
    Errors: a server that cannot be reached, refuses, or sends something else; a size or hash that differs; a full disk.
    """
    check_url(url, title)
    if not target.exists():
        check = functools.partial(check_file, size=size, sha256=sha256, md5=md5)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_name(f".{target.name}.lock")):
                if not target.exists():
                    _download(url, target, size, bool(sha256 or md5), title, check)
        except OSError as error:
            raise files.cannot_write(target, error) from error
    check_file(target, size=size, sha256=sha256)
    if sha256 is None:
        check_recorded(target, target.with_name(f"{target.name}.sha256"))
    return target


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    return files.sha256(path)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file; remembered in this process while the file stays as it is."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


def check_recorded(path: Path, record: Path) -> None:
    """Compare a file with the SHA-256 recorded at its first use, or record it now. Errors: another one."""
    found = file_sha256(path)
    if not record.is_file():
        files.write_text(record, f"{found}  {path.name}\n")
    elif (known := record.read_text(encoding="utf-8").split()[:1]) != [found]:
        raise UserError(
            f"its SHA-256 is {found}, at its first use it was {known[0] if known else 'none'}",
            where=path,
            fix=f"Delete the file to fetch it again, or {record} if you changed it on purpose.",
        )


def check_url(url: str, title: str) -> None:
    """Errors: anything but http and https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url!r} is not an http or https address", where=title)


def check_file(path: Path, *, size: int | None, sha256: str | None, md5: str | None = None) -> None:
    """Errors: another size or hash than the ones that are given."""
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise UserError(f"it has {found_size} bytes, expected {size}", where=path, fix="Delete it to fetch it again.")
    if sha256 is not None and (found := file_sha256(path)) != sha256.lower():
        raise UserError(f"its SHA-256 is {found}, expected {sha256}", where=path, fix="Delete it to fetch it again.")
    if md5 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if found != md5.lower():
            raise UserError(f"its MD5 is {found}, expected {md5}", where=path, fix="Delete it to fetch it again.")


def _download(url: str, target: Path, size: int | None, has_hash: bool, title: str, check: Callable[[Path], None]) -> None:
    part, state = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.part.json")
    known = _resumable(url, part, state, has_hash)
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(known, part, state, size, title)
            break
        except _Broken as error:
            reached = part.stat().st_size if part.exists() else 0
            failures = 1 if reached > before else failures + 1
            if failures >= ATTEMPTS:
                of = "" if known.total is None else f" of {known.total}"
                raise UserError(
                    f"the download of {url} stopped at {reached}{of} bytes: {error}",
                    where=title,
                    fix="Run the same command again: it continues from there.",
                ) from error
            # Not all clients of a server that comes back should come back at once.
            time.sleep(error.wait_s if error.wait_s is not None else BACKOFF_S * 2 ** (failures - 1) * random.uniform(0.5, 1.0))
    try:
        check(part)
    except UserError as error:
        part.unlink()
        state.unlink(missing_ok=True)
        raise UserError(
            f"{url} sent another file: {error.problem}",
            where=title,
            fix="Try again. If the error stays, the file on the server has changed.",
        ) from error
    part.replace(target)
    state.unlink(missing_ok=True)


def _resumable(url: str, part: Path, state: Path, has_hash: bool) -> _Known:
    """What an earlier run knew. A part that nothing could tell from another version of the file is thrown away."""
    if part.exists() and state.is_file():
        try:
            known = _Known(**json.loads(state.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            known = _Known("")
        if known.url == url and (known.validator is not None or has_hash):
            return known
    part.unlink(missing_ok=True)
    return _Known(url)


def _attempt(known: _Known, part: Path, state: Path, size: int | None, title: str) -> None:
    """One request, from the end of what is there. Raises _Broken where another may go on."""
    have = part.stat().st_size if part.exists() else 0
    with _open(known, have, title) as response:
        if response.status == 416:
            _restart_unless_whole(part, have, known)
            return
        start, total = _place(response, have, title)
        if size is not None and total is not None and total != size:
            raise UserError(
                f"{known.url} announces {total} bytes, expected {size}", where=title, fix="The file has changed, or the address is wrong."
            )
        known.validator, known.total = _validator(response), total
        files.write_text(state, json.dumps(asdict(known)))
        _check_space(part, (total or 0) - start)
        with part.open("r+b" if part.exists() else "wb") as out, bar(title, total, "bytes") as advance:
            out.truncate(start)
            out.seek(start)
            advance(start)
            _copy(response, out, start, total, advance, known.url, title)


def _copy(response: Any, out: IO[bytes], start: int, total: int | None, advance: Callable[[int], None], url: str, title: str) -> None:
    got = start
    while True:
        try:
            piece = response.read(PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(first_line(error)) from error
        if not piece:
            break
        if got == 0 and piece.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise _web_page(url, title)
        out.write(piece)
        got += len(piece)
        advance(len(piece))
    if total is not None and got < total:
        raise _Broken("the server closed the connection")


def _open(known: _Known, have: int, title: str) -> Any:
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = _opener(title).open(urllib.request.Request(known.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return error
        if error.code in _PASSING_STATUS:
            raise _Broken(f"the server answered {error.code} {error.reason}", _retry_after(error)) from error
        raise UserError(
            f"{known.url} answered {error.code} {error.reason}", where=title, fix="Check the address, or fetch the file by hand."
        ) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError | socket.gaierror):
            raise UserError(
                f"{known.url} cannot be reached: {first_line(error.reason)}",
                where=title,
                fix="Check the internet connection; or get the file by other means, for weights with --weights FILE.",
            ) from error
        raise _Broken(first_line(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(first_line(error)) from error
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _web_page(known.url, title)
    return response


def _place(response: Any, have: int, title: str) -> tuple[int, int | None]:
    """(first byte of this answer, size of the whole file or None). A server that ignores Range starts over."""
    length = response.headers.get("Content-Length")
    if response.status == 200:
        return 0, int(length) if length and length.isdecimal() else None
    range_, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if response.status != 206 or range_.partition("-")[0] != str(have):
        raise UserError(
            f"the server answered {response.status} with the range {range_!r}, asked for {have}-", where=title, fix="Try another address."
        )
    return have, int(total) if total.isdecimal() else None


def _restart_unless_whole(part: Path, have: int, known: _Known) -> None:
    """After "range not satisfiable": the part is the whole file, or it belongs to another one."""
    if have != known.total:
        part.unlink()
        raise _Broken("the server's file is shorter than what was fetched")


def _validator(response: Any) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "") if error.headers else ""
    return min(float(value), LONGEST_WAIT_S) if value.isdecimal() else None


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            where=part.parent,
            fix="Free space there or choose another folder.",
        )


def _web_page(url: str, title: str) -> UserError:
    return UserError(f"{url} sent a web page instead of the file", where=title, fix="Open the address in a browser: it may want a login.")


def first_line(error: object) -> str:
    """What an error says, cut to one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https down to http."""

    def __init__(self, title: str) -> None:
        self.title = title

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, self.title)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise UserError(f"{req.full_url} redirects to the unencrypted address {newurl}", where=self.title)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(title: str) -> urllib.request.OpenerDirector:
    """An opener that knows http and https alone: no file, no ftp, no data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(title),
    ):
        opener.add_handler(handler)
    return opener
