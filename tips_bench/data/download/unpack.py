"""Archives from strangers, unpacked whole or not at all, and never outside their folder.

Only plain files and folders are taken. An absolute name, a way up, a link, a device, a name given twice, or more data than the archive can
honestly hold: an error before anything is moved into place. Members of a tar also pass Python's own data filter (PEP 706), which alone
would take links inside the folder and turn absolute names into relative ones.
"""

from __future__ import annotations

import filecmp
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tips_bench.errors import UserError
from tips_bench.files import cannot_write
from tips_bench.progress import bar

# Label maps shrink to a hundredth; what unpacks to more, beyond the first 64 MB, is no data set.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
MAX_ENTRIES = 5_000_000
MAX_FOLDERS = 100_000  # entries that are folders; ImageNet-21k has 21,841
_PIECE = 1 << 20
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Entry:
    """One file of an archive. stream: its bytes, read at most once and in the archive's order."""

    name: str
    stream: IO[bytes]


def unpack(archive: Path, folder: Path, title: str) -> None:
    """Unpack a .zip or .tar (plain, gz, bz2, xz) into `folder`, beside what is there already.

    Everything is written to a temporary folder next to `folder` and moved in when the archive was good to its end.
    Errors: a hostile or broken archive, a file there already with another content, a full disk.
    """
    work = folder / f".{archive.name}.unpacking"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Left over where an earlier run was killed.
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            _write_all(archive, work, title)
            merge(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def merge(source: Path, target: Path) -> None:
    """Move everything in `source` into `target`; a whole folder at once where `target` has none of its name.

    Errors: a file there already that differs.
    """
    for item in sorted(source.iterdir()):
        place = target / item.name
        if place.is_symlink() or (place.exists() and place.is_dir() != item.is_dir()):
            raise UserError(
                "the archive contains something else under this name", where=place, fix="Move it away, and run the command again."
            )
        if not place.exists():
            os.replace(item, place)
        elif item.is_dir():
            merge(item, place)
        elif not filecmp.cmp(item, place, shallow=False):
            raise UserError(
                "a file with this name exists already, and differs from the one in the archive",
                where=place,
                fix="Move it away, and run the command again.",
            )


def _write_all(archive: Path, work: Path, title: str) -> None:
    limit = max(FREE_BYTES, MAX_RATIO * archive.stat().st_size)
    written = count = 0
    with bar(f"{title}: unpacking", None, "bytes") as advance, _reading(archive):
        for entry in _entries(archive, work):
            count += 1
            if count > MAX_ENTRIES:
                raise UserError(f"it holds more than {MAX_ENTRIES} entries", where=archive, fix="Is it the right file?")
            path = work.joinpath(*entry_path(entry.name, archive).parts)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                out = path.open("xb")
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise UserError(f"it holds {entry.name!r} twice", where=archive, fix="Fetch it again.") from error
            with out:
                while piece := entry.stream.read(_PIECE):
                    written += len(piece)
                    if written > limit:
                        raise UserError(f"it unpacks to more than {MAX_RATIO} times its size", where=archive, fix="Is it the right file?")
                    out.write(piece)
                    advance(len(piece))
    if not count:
        raise UserError("it holds no file", where=archive, fix="Fetch it again.")


def entry_path(name: str, archive: Path) -> PurePosixPath:
    """The name of an entry as a path below a folder. Errors: one that would lead out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts or ":" in path.parts[0]:
        raise UserError(f"it holds {name!r}, which points outside its folder", where=archive, fix="Do not use this archive.")
    return path


def _entries(archive: Path, work: Path) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        yield from _zip_entries(archive, work)
    elif tarfile.is_tarfile(archive):
        yield from _tar_entries(archive, work)
    else:
        raise UserError("it is neither a zip nor a tar archive", where=archive, fix="Delete it to fetch it again.")


def _zip_entries(archive: Path, work: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as zipped:
        infos = zipped.infolist()
        # A zip declares its sizes beforehand, so that a bomb is refused before a byte is written.
        declared, packed = sum(info.file_size for info in infos), archive.stat().st_size
        if declared > max(FREE_BYTES, MAX_RATIO * packed):
            raise UserError(
                f"an archive of {packed} bytes claims to unpack to {declared} bytes", where=archive, fix="Is it the right file?"
            )
        if declared > (free := shutil.disk_usage(work).free):
            raise UserError(
                f"unpacking needs {declared / 1e9:.2f} GB, {free / 1e9:.2f} GB are free", where=work.parent, fix="Free space there."
            )
        for info in infos:
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_plain(info.filename, archive)
            if info.flag_bits & 1:
                raise UserError(f"{info.filename!r} is encrypted", where=archive, fix="Unpack it by hand.")
            if info.is_dir():
                entry_path(info.filename, archive)
                continue
            with zipped.open(info) as stream:
                yield _Entry(info.filename, stream)


def _tar_entries(archive: Path, work: Path) -> Iterator[_Entry]:
    folders = 0
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                folders += 1
                if folders > MAX_FOLDERS:
                    raise UserError(f"it holds more than {MAX_FOLDERS} folders", where=archive, fix="Is it the right file?")
                if member.name not in (".", "./"):
                    entry_path(member.name, archive)
                continue
            if not member.isreg() or member.issparse():
                raise _not_plain(member.name, archive)
            entry_path(member.name, archive)
            if hasattr(tarfile, "data_filter"):  # Python 3.11.4
                member = tarfile.data_filter(member, str(work))
            stream = tar.extractfile(member)
            if stream is None:
                raise _not_plain(member.name, archive)
            with stream:
                yield _Entry(member.name, stream)


def _not_plain(name: str, archive: Path) -> UserError:
    return UserError(
        f"it holds {name!r}, which is a link, a device or something else that is not a plain file",
        where=archive,
        fix="Do not use this archive.",
    )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"the archive is damaged or cut short: {reason}", where=archive, fix="Delete it to fetch it again.") from error
