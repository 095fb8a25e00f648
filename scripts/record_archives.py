"""Folders of records as one archive each, which the pages of docs/ are written from."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tips_bench.files import atomic


def pack(records: Path, path: Path) -> None:
    """A folder of records as one archive, the same bytes for the same records.

    Each file keeps its bytes, for a record names the SHA-256 of its counts.
    """
    with atomic(path) as temporary, tarfile.open(temporary, "w:xz", preset=9) as tar:
        for file in sorted(one for one in records.rglob("*") if one.suffix in (".json", ".npz")):
            data = file.read_bytes()
            member = tarfile.TarInfo(file.relative_to(records).as_posix())
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the records of an archive, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as tar:
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        tar.extractall(folder, **safely)
        yield Path(folder)
