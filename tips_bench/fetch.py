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
import re
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

from filelock import FileLock

from tips_bench import files
from tips_bench.errors import UserError
from tips_bench.journal import say
from tips_bench.progress import bar
from tips_bench.web import SLOW_S, SLOWEST, Watch, check_url, opener, shown

TIMEOUT_S = 30
# Attempts in a row that may bring fewer than SLOWEST new bytes; each waits twice as long as the one before.
ATTEMPTS = 5
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60
PIECE = 1 << 18
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_AGENT = "tips-bench"


class _Broken(Exception):
    """An interruption after which another attempt may succeed. wait_s: the delay that the server asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Changed(Exception):
    """The server has another file than the one of which a part is here."""


@dataclass
class _Known:
    """What is known of a file while it grows. validator: a strong ETag or a date: tells the server's versions apart."""

    url: str
    validator: str | None = None
    total: int | None = None

    @classmethod
    def read(cls, state: Path) -> _Known | None:
        """What an earlier run wrote down; None where that is damaged."""
        try:
            known = cls(**json.loads(state.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError):
            return None
        sound = isinstance(known.url, str) and isinstance(known.validator, str | None) and isinstance(known.total, int | None)
        return known if sound and (known.validator is None or _is_validator(known.validator)) else None


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
    _bring(_resumable(url, part, state, has_hash), part, state, size, title)
    try:
        check(part)
    except UserError as error:
        part.unlink()
        state.unlink(missing_ok=True)
        raise UserError(
            f"{shown(url)} sent another file: {error.problem}",
            where=title,
            fix="Try again. If the error stays, the file on the server has changed.",
        ) from error
    part.replace(target)
    state.unlink(missing_ok=True)


def _bring(known: _Known, part: Path, state: Path, size: int | None, title: str) -> None:
    """Attempts until the part is whole. Errors: too many that bring next to nothing; a file that changes twice meanwhile."""
    failures, furthest, restarted = 0, _size(part), False
    while True:
        try:
            _attempt(known, part, state, size, title)
            return
        except _Changed as error:
            if restarted:
                raise UserError(f"{shown(known.url)} is another file each time", where=title, fix="Try again later.") from error
            part.unlink()
            known, furthest, restarted = _Known(known.url), 0, True
        except _Broken as error:
            reached = _size(part)
            failures = 1 if reached >= furthest + SLOWEST else failures + 1
            furthest = max(furthest, reached)
            if failures >= ATTEMPTS:
                of = "" if known.total is None else f" of {known.total}"
                raise UserError(
                    f"the download of {shown(known.url)} stopped at {reached}{of} bytes: {error}",
                    where=title,
                    fix="Run the same command again: it continues from there.",
                ) from error
            # Not all clients of a server that comes back should come back at once.
            time.sleep(error.wait_s if error.wait_s is not None else BACKOFF_S * 2 ** (failures - 1) * random.uniform(0.5, 1.0))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _resumable(url: str, part: Path, state: Path, has_hash: bool) -> _Known:
    """What an earlier run knew. A part that nothing could tell from another version of the file is thrown away."""
    if part.exists() and state.is_file():
        known = _Known.read(state)
        if known is not None and known.url == url and (known.validator is not None or has_hash):
            return known
    part.unlink(missing_ok=True)
    return _Known(url)


def _attempt(known: _Known, part: Path, state: Path, size: int | None, title: str) -> None:
    """One request, from the end of what is there. Raises _Broken where another may go on, _Changed where it must start over."""
    have = _size(part)
    with Watch() as watch, _open(known, have, title, watch) as response:
        if response.status == 416:
            _check_whole(response, have, known)
            return
        start, total = _place(response, have, known, title)
        if total is None and known.validator is not None and _validator(response) == known.validator:
            total = known.total
        if size is not None and total is not None and total != size:
            raise UserError(
                f"{shown(known.url)} announces {total} bytes, expected {size}",
                where=title,
                fix="The file has changed, or the address is wrong.",
            )
        known.validator, known.total = _validator(response), total
        files.write_text(state, json.dumps(asdict(known)))
        _check_space(part, (total or 0) - start)
        with part.open("r+b" if part.exists() else "wb") as out, bar(title, total, "bytes") as advance:
            out.truncate(start)
            out.seek(start)
            advance(start)
            got = _copy(response, out, start, size if total is None else total, watch, advance, known.url, title)
    if got is None:
        part.unlink()
        state.unlink()
        raise UserError(f"{shown(known.url)} sent more bytes than it should", where=title, fix="Try again, or get the file by other means.")


def _copy(
    response: Any, out: IO[bytes], start: int, most: int | None, watch: Watch, advance: Callable[[int], None], url: str, title: str
) -> int | None:
    """Append the answer; the size that is reached, None where that would be more than `most`."""
    got = start
    while True:
        try:
            piece = response.read1(PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_too_slow() if watch.stalled else first_line(error)) from error
        if not piece:
            break
        if got == 0 and piece.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise _web_page(url, title)
        got += len(piece)
        watch.got += len(piece)
        if most is not None and got > most:
            return None
        out.write(piece)
        advance(len(piece))
    if most is not None and got < most:
        raise _Broken(_too_slow() if watch.stalled else "the server closed the connection")
    return got


def _too_slow() -> str:
    return f"fewer than {SLOWEST} bytes came in {SLOW_S:.0f} s"


def _open(known: _Known, have: int, title: str, watch: Watch) -> Any:
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        response = opener(title, watch).open(urllib.request.Request(known.url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            return error
        error.close()
        raise _refusal(error, known.url, title) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError | socket.gaierror):
            raise UserError(
                f"{shown(known.url)} cannot be reached: {first_line(error.reason)}",
                where=title,
                fix="Check the internet connection; or get the file by other means, for weights with --weights FILE.",
            ) from error
        raise _Broken(_too_slow() if watch.stalled else first_line(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_too_slow() if watch.stalled else first_line(error)) from error
    except ValueError as error:  # a redirect to what is no address
        raise UserError(f"{shown(known.url)} leads to no address: {first_line(error)}", where=title, fix="Check the address.") from error
    _check_kind(response, known.url, title)
    return response


def _check_kind(response: Any, url: str, title: str) -> None:
    """Errors: a web page; bytes that are not the file's own, though they were asked for."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    own = re.search(r"\.t?gz$", url) and encoding in ("gzip", "x-gzip")  # some servers say so of an archive as it stands
    if encoding not in ("", "identity") and not own:
        response.close()
        raise UserError(
            f"{shown(url)} sent the file in another encoding ({first_line(encoding)[:40]})", where=title, fix="Fetch the file by hand."
        )
    if response.headers.get_content_type() == "text/html":
        response.close()
        raise _web_page(url, title)


def _refusal(error: urllib.error.HTTPError, url: str, title: str) -> Exception:
    """What a status that is no success means: wait and try again, or give up."""
    said = f"{error.code} {error.reason}"
    if error.code not in _PASSING_STATUS:
        return UserError(f"{shown(url)} answered {said}", where=title, fix="Check the address, or fetch the file by hand.")
    wait_s = _number(error.headers.get("Retry-After"))
    if wait_s is not None and wait_s > LONGEST_WAIT_S:
        fix = "Run the same command again then: it continues where it stopped."
        return UserError(f"{shown(url)} answered {said} and asks to wait {wait_s} s", where=title, fix=fix)
    if wait_s:
        say(f"{title}: the server asks to wait {wait_s} s")
    return _Broken(f"the server answered {said}", wait_s)


def _place(response: Any, have: int, known: _Known, title: str) -> tuple[int, int | None]:
    """(first byte of this answer, size of the whole file or None). A server that ignores Range starts over."""
    if response.status == 200:
        return 0, _number(response.headers.get("Content-Length"))
    range_, total = _content_range(response)
    if response.status != 206 or range_.partition("-")[0] != str(have):
        raise UserError(
            f"the server answered {response.status} with the range {range_!r}, asked for {have}-", where=title, fix="Try another address."
        )
    if have and not _is_same(response, total, known):
        raise _Changed
    return have, total


def _check_whole(response: Any, have: int, known: _Known) -> None:
    """After "range not satisfiable": the part is the whole file, or it belongs to another one."""
    total = _content_range(response)[1]
    if have != known.total or not _is_same(response, total, known):
        raise _Changed


def _content_range(response: Any) -> tuple[str, int | None]:
    """(range as the server has it, size of the whole file or None)."""
    range_, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return range_[:50], _number(total)


def _is_same(response: Any, total: int | None, known: _Known) -> bool:
    """Whether an answer is about the file that is known: nothing that it says of it is different."""
    now = None
    if known.validator is not None:
        now = response.headers.get("ETag" if known.validator.startswith('"') else "Last-Modified")
    return now in (None, known.validator) and (total is None or known.total is None or total == known.total)


def _validator(response: Any) -> str | None:
    etag = response.headers.get("ETag", "")
    found = etag if etag.startswith('"') else response.headers.get("Last-Modified")
    return found if found and _is_validator(found) else None


def _is_validator(text: str) -> bool:
    """Whether a server's text can be sent back in a header."""
    return re.fullmatch(r"[ -~]{1,1000}", text) is not None


def _number(text: str | None) -> int | None:
    """A whole number from a header; None where it is none that a file's size could be."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"{needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            where=part.parent,
            fix="Free space there or choose another folder.",
        )


def _web_page(url: str, title: str) -> UserError:
    return UserError(
        f"{shown(url)} sent a web page instead of the file", where=title, fix="Open the address in a browser: it may want a login."
    )


def first_line(error: object) -> str:
    """What an error says, cut to one short line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
