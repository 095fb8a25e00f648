"""Headers of a tar that claim gigabytes, or never end: Python would read them whole."""

from __future__ import annotations

import gzip
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from tips_bench.data.download import unpack as unpacking
from tips_bench.data.download.unpack import unpack
from tips_bench.errors import UserError


def header_alone(kind: bytes, size: int) -> bytes:
    """The first block of a tar's member, and zeros in place of what it announces."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.SOLARIS_XHDTYPE]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_header_of_gigabytes_is_refused_before_it_is_read(tmp_path: Path, kind: bytes, packed: bool) -> None:
    content = header_alone(kind, 4 << 30) + bytes(4 << 20)
    (tmp_path / "set.tar").write_bytes(gzip.compress(content, 1) if packed else content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="it holds a header of 4294967296 bytes"):
            unpack(tmp_path / "set.tar", tmp_path / "sets", "toy")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_tar_headers_that_never_end_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1 << 10)
    pax = header_alone(tarfile.XGLTYPE, 512 << 10) + b"9 path=a\n".ljust(512 << 10, b"\0")
    (tmp_path / "set.tar").write_bytes(gzip.compress(pax * 20, 9))
    with pytest.raises(UserError, match=r"more than 200 times its size|damaged"):
        unpack(tmp_path / "set.tar", tmp_path / "sets", "toy")
