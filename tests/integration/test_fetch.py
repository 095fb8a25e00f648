"""Downloads from a server that breaks off, lies and leads astray."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.broken_server import Served, Server, running
from tips_bench import fetch as fetching
from tips_bench import web
from tips_bench.errors import UserError
from tips_bench.fetch import fetch

CONTENT = hashlib.sha256(b"seed").digest() * 40_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    monkeypatch.setattr(fetching, "PIECE", 1 << 14)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running() as started:
        yield started


def left(folder: Path) -> set[str]:
    """What a folder holds beside locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_file_arrives_whole_and_its_hash_is_recorded(server: Server, tmp_path: Path) -> None:
    target = fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", title="a")
    assert target.read_bytes() == CONTENT
    assert left(tmp_path) == {"a.bin", "a.bin.sha256"}
    assert (tmp_path / "a.bin.sha256").read_text() == f"{SHA256}  a.bin\n"


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT)
    fetch(url, tmp_path / "a.bin", title="a")
    fetch(url, tmp_path / "a.bin", title="a")
    assert len(server.requests("a.bin")) == 1


def test_a_file_in_a_folder_that_cannot_be_written_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("a.bin", CONTENT)
    fetch(url, tmp_path / "a.bin", title="a")

    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(fetching, "FileLock", refuse)
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"b\.bin: cannot write: Permission denied"):
        fetch(url, tmp_path / "b.bin", title="a")


def test_a_file_changed_after_its_first_use_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT)
    fetch(url, tmp_path / "a.bin", title="a")
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match=r"a\.bin: its SHA-256 is .* at its first use it was " + SHA256):
        fetch(url, tmp_path / "a.bin", title="a")


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, breaks=[300_000, 400_000, 1])
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests("a.bin")] == [None, "bytes=300000-", "bytes=700000-", "bytes=700001-"]
    assert server.requests("a.bin")[1]["If-Range"] == '"v1"'


def test_a_run_that_was_killed_is_taken_up_by_the_next(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("a.bin", CONTENT, breaks=[500_000] + [0] * 9)
    with pytest.raises(UserError, match=f"stopped at 500000 of {len(CONTENT)} bytes"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert left(tmp_path) == {"a.bin.part", "a.bin.part.json"}
    server.files["/a.bin"].breaks.clear()
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    assert server.requests("a.bin")[-1]["Range"] == "bytes=500000-"


def test_a_process_that_is_killed_leaves_a_part_that_the_next_one_ends(server: Server, tmp_path: Path) -> None:
    url, target = server.serve("a.bin", CONTENT, stall=600_000), tmp_path / "a.bin"
    code = "import sys; from pathlib import Path; from tips_bench.fetch import fetch; fetch(sys.argv[1], Path(sys.argv[2]), title='a')"
    with subprocess.Popen([sys.executable, "-c", code, url, str(target)]) as process:
        part, started = tmp_path / "a.bin.part", time.monotonic()
        while not (part.exists() and part.stat().st_size >= 200_000):
            assert process.poll() is None and time.monotonic() - started < 30
            time.sleep(0.01)
        process.kill()
    assert not target.exists()
    reached = part.stat().st_size
    assert fetch(url, target, title="a").read_bytes() == CONTENT
    assert server.requests("a.bin")[-1]["Range"] == f"bytes={reached}-"


def test_another_version_of_the_file_is_fetched_from_its_start(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, breaks=[500_000] + [0] * 9)
    with pytest.raises(UserError):
        fetch(url, tmp_path / "a.bin", title="a")
    newer = CONTENT[::-1]
    server.serve("a.bin", newer, etag='"v2"')
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == newer


def test_a_part_without_a_validator_or_a_hash_is_thrown_away(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, etag=None, breaks=[500_000] + [0] * 9)
    with pytest.raises(UserError):
        fetch(url, tmp_path / "a.bin", title="a")
    server.serve("a.bin", CONTENT[::-1], etag=None)
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT[::-1]
    assert "Range" not in server.requests("a.bin")[0]


@pytest.mark.parametrize("newer", [CONTENT[::-1], CONTENT + b"more", CONTENT[:700_000], CONTENT[:400_000]])
@pytest.mark.parametrize("known", [{}, {"sha256": "of the newer"}])
def test_a_part_is_never_joined_with_another_version_by_a_server_that_ignores_if_range(
    server: Server, tmp_path: Path, newer: bytes, known: dict[str, str]
) -> None:
    if known:
        known = {"sha256": hashlib.sha256(newer).hexdigest()}
    url = server.serve("a.bin", CONTENT, breaks=[500_000] + [0] * 9)
    with pytest.raises(UserError, match="stopped at 500000"):
        fetch(url, tmp_path / "a.bin", title="a", **known)
    server.serve("a.bin", newer, etag='"v2"', compares=False)
    assert fetch(url, tmp_path / "a.bin", title="a", **known).read_bytes() == newer
    assert [request.get("Range") for request in server.requests("a.bin")] == ["bytes=500000-", None]


def test_another_total_alone_tells_another_version(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, breaks=[500_000] + [0] * 9)
    with pytest.raises(UserError, match="stopped at 500000"):
        fetch(url, tmp_path / "a.bin", title="a")
    server.serve("a.bin", CONTENT[::-1] + b"more", etag=None, compares=False)
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT[::-1] + b"more"


def test_a_file_that_changes_at_every_request_is_given_up(server: Server, tmp_path: Path) -> None:
    class Restless(Served):
        @property  # type: ignore[misc]
        def etag(self) -> str:
            return f'"v{len(self.requests)}"'

        @etag.setter
        def etag(self, value: str | None) -> None:
            pass

    server.files["/a.bin"] = Restless(CONTENT, breaks=[300_000] * 99, compares=False)
    with pytest.raises(UserError, match="is another file each time"):
        fetch(f"{server.address}/a.bin", tmp_path / "a.bin", title="a")
    assert len(server.requests("a.bin")) == 4


def test_a_part_that_the_server_cannot_go_on_from_starts_over_once(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT[:400_000], compares=False)
    for total in (len(CONTENT), 500_000):
        (tmp_path / "a.bin").unlink(missing_ok=True)
        (tmp_path / "a.bin.part").write_bytes(CONTENT[:500_000])
        (tmp_path / "a.bin.part.json").write_text(json.dumps({"url": url, "validator": '"v1"', "total": total}))
        assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT[:400_000]
    assert len(server.requests("a.bin")) == 4


@pytest.mark.parametrize(
    "state", ['{"url": "URL", "validator": ["x"]}', '{"url": "URL", "validator": "a\\nb: c"}', "[" * 99_999, '{"no": 1}', "3"]
)
def test_a_state_that_nobody_wrote_starts_over(server: Server, tmp_path: Path, state: str) -> None:
    url = server.serve("a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(b"garbage")
    (tmp_path / "a.bin.part.json").write_text(state.replace("URL", url))
    assert fetch(url, tmp_path / "a.bin", title="a", sha256=SHA256).read_bytes() == CONTENT


def test_a_server_that_ignores_range_starts_over(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, honours_range=False, breaks=[500_000])
    assert fetch(url, tmp_path / "a.bin", title="a", sha256=SHA256).read_bytes() == CONTENT


def test_a_damaged_state_beside_a_part_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"garbage")
    (tmp_path / "a.bin.part.json").write_text('{"url": 3, "zzz"')
    assert fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", title="a").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "a.bin.part.json").write_text(json.dumps({"url": url, "validator": '"v1"', "total": len(CONTENT) + 9}))
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT


def test_a_whole_part_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    (tmp_path / "a.bin.part.json").write_text(json.dumps({"url": url, "validator": '"v1"', "total": len(CONTENT)}))
    assert fetch(url, tmp_path / "a.bin", title="a", sha256=SHA256).read_bytes() == CONTENT


def test_answers_that_pass_are_waited_for(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[503, 429, 500])
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    assert len(server.requests("a.bin")) == 4


def test_a_server_that_never_recovers_is_given_up(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[503] * 99)
    with pytest.raises(UserError, match="stopped at 0 bytes: the server answered 503"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert len(server.requests("a.bin")) == fetching.ATTEMPTS


def test_a_server_that_asks_for_a_long_wait_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[503], retry_after="31536000")
    with pytest.raises(UserError, match=r"answered 503 .* and asks to wait 31536000 s. Run the same command again then"):
        fetch(url, tmp_path / "a.bin", title="a")


def test_a_wait_that_the_server_asks_for_is_told(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[429], retry_after="1")
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    assert capsys.readouterr().err == "a: the server asks to wait 1 s\n"


@pytest.mark.parametrize("value", ["-1", "1e99", "9" * 5000, "soon", "Fri, 31 Dec 9999 23:59:59 GMT", ""])
def test_a_wait_that_is_no_number_of_seconds_is_not_heeded(server: Server, tmp_path: Path, value: str) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[503], retry_after=value)
    assert fetch(url, tmp_path / "a.bin", title="a").read_bytes() == CONTENT


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "x-gzip", "deflate, gzip"])
def test_a_file_that_comes_in_another_encoding_is_refused(server: Server, tmp_path: Path, encoding: str) -> None:
    url = server.serve("a.bin", gzip.compress(CONTENT), headers={"Content-Encoding": encoding})
    with pytest.raises(UserError, match="sent the file in another encoding"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert left(tmp_path) == set()


def test_an_archive_whose_own_compression_the_server_names_is_kept_as_it_is(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.tar.gz", CONTENT, headers={"Content-Encoding": "x-gzip"})
    assert fetch(url, tmp_path / "a.tar.gz", title="a").read_bytes() == CONTENT


def test_a_body_longer_than_the_stated_size_is_stopped(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT * 9, chunked=True)
    with pytest.raises(UserError, match="sent more bytes than it should"):
        fetch(url, tmp_path / "a.bin", size=len(CONTENT), title="a")
    assert left(tmp_path) == set()


def test_a_server_that_hardly_sends_anything_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SLOW_S", 0.1)
    monkeypatch.setattr(fetching, "SLOW_S", 0.1)
    url = server.serve("a.bin", CONTENT, drip_s=0.01)
    with pytest.raises(UserError, match=r"stopped at .* bytes: fewer than 6000 bytes came in 0 s"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert len(server.requests("a.bin")) == fetching.ATTEMPTS


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    url = server.serve("a.bin", CONTENT, statuses=[status] * 9)
    with pytest.raises(UserError, match=f"a: .*a.bin answered {status}"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert len(server.requests("a.bin")) == 1
    assert left(tmp_path) == set()


def test_a_claimed_length_longer_than_the_file_is_an_error(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, length=len(CONTENT) + 1000)
    with pytest.raises(UserError, match=f"stopped at {len(CONTENT)} of {len(CONTENT) + 1000} bytes"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert "a.bin" not in left(tmp_path)


def test_a_claimed_length_shorter_than_the_file_is_an_error_where_size_or_hash_is_known(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, length=1000)
    with pytest.raises(UserError, match=f"announces 1000 bytes, expected {len(CONTENT)}"):
        fetch(url, tmp_path / "a.bin", size=len(CONTENT), title="a")
    with pytest.raises(UserError, match=f"sent another file: its SHA-256 is .*, expected {SHA256}"):
        fetch(url, tmp_path / "a.bin", sha256=SHA256, title="a")
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("known", "message"),
    [({"sha256": "0" * 64}, "SHA-256"), ({"md5": "0" * 32}, "MD5"), ({"size": 7}, "announces")],
)
def test_a_file_that_is_not_the_published_one_is_not_kept(server: Server, tmp_path: Path, known: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", title="a", **known)
    assert left(tmp_path) == set()


def test_size_and_hashes_that_agree_are_accepted(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", size=len(CONTENT), sha256=SHA256.upper(), md5=md5, title="a")
    assert left(tmp_path) == {"a.bin"}


def test_an_answer_in_chunks_has_no_length_and_is_checked_by_hash(server: Server, tmp_path: Path) -> None:
    url = server.serve("a.bin", CONTENT, chunked=True)
    assert fetch(url, tmp_path / "a.bin", sha256=SHA256, title="a").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_in_place_of_the_file_is_refused(server: Server, tmp_path: Path, kind: str) -> None:
    url = server.serve("a.bin", b"\n <!DOCTYPE html><html>Please log in</html>", kind=kind)
    with pytest.raises(UserError, match="sent a web page instead of the file"):
        fetch(url, tmp_path / "a.bin", title="a")
    assert "a.bin" not in left(tmp_path)


def test_a_redirect_is_followed_to_http_only(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not read")
    good = server.serve("moved", redirect=server.serve("a.bin", CONTENT))
    assert fetch(good, tmp_path / "a.bin", title="a").read_bytes() == CONTENT
    for place in (secret.as_uri(), "ftp://127.0.0.1/x", "data:text/plain,x"):
        with pytest.raises(UserError, match=r"is not allowed|not an http or https address"):
            fetch(server.serve("bad", redirect=place), tmp_path / "b.bin", title="a")
    assert not (tmp_path / "b.bin").exists()


def test_redirects_in_a_circle_end(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="302"):
        fetch(server.serve("round", redirect=f"{server.address}/round"), tmp_path / "a.bin", title="a")


def test_a_redirect_to_what_is_no_address_is_one_sentence(server: Server, tmp_path: Path) -> None:
    for place in ("http://[::1/x", "http://user:secret@127.0.0.1/x", "http://h:port/x"):
        with pytest.raises(UserError, match="address") as error:
            fetch(server.serve("bad", redirect=place), tmp_path / "b.bin", title="a")
        assert "secret" not in str(error.value)


def test_a_server_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/a.* stopped at 0 bytes: .*refused"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a.bin", title="a")


def test_a_disk_without_room_is_found_out_before_the_transfer(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.00 GB are needed|are free"):
        fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", title="a")
    assert "a.bin" not in left(tmp_path)


def test_a_disk_that_fills_up_is_said_and_the_part_is_kept(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "_copy", full)
    with pytest.raises(UserError, match="cannot write: No space left on device"):
        fetch(server.serve("a.bin", CONTENT), tmp_path / "a.bin", title="a")
    assert "a.bin" not in left(tmp_path)
