"""Archives from strangers, unpacked whole or not at all, and never outside their folder.

Only plain files and folders are taken. An absolute name, a way up, a link, a device, a name given twice or kept for this program, or more
data, folders or names than a data set honestly has: an error before anything is moved into place. Members of a tar also pass Python's own
data filter (PEP 706), which alone would take links inside the folder and turn absolute names into relative ones.
"""

from __future__ import annotations

import bz2
import filecmp
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tips_bench.errors import UserError
from tips_bench.files import cannot_write
from tips_bench.progress import bar

# Label maps shrink to a hundredth; what unpacks to more, beyond the first 64 MB, is no data set.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
MAX_ENTRIES = 5_000_000
MAX_FOLDERS = 100_000  # entries that are folders, and folders that files lie in; ImageNet-21k has 21,841
MAX_DEPTH = 64  # folders in a name
MAX_NAME = 1_000  # characters of a name
MAX_HEADER = 1 << 20  # bytes of one header of a tar: names, dates
MAX_LISTING = 1 << 30  # bytes of a zip's list of its entries: five million of them with long names
_PIECE = 1 << 20
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# Names that this package works under while something is not whole, and beside files.
_KEPT = re.compile(r"\..*\.(unpacking|lock|tmp|old)")
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


def unpack(archive: Path, folder: Path, title: str, *, taken: Collection[str] = ()) -> None:
    """Unpack a .zip or .tar (plain, gz, bz2, xz) into `folder`, beside what is there already.

    Everything is written to a temporary folder next to `folder` and moved in when the archive was good to its end. taken: names directly in
    `folder` that no archive may use.
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
            if names := sorted({item.name for item in work.iterdir()} & set(taken)):
                raise _kept_name(names[0], archive)
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
    folders: set[Path] = set()
    with bar(f"{title}: unpacking", None, "bytes") as advance, _reading(archive):
        for entry in _entries(archive, work):
            count += 1
            if count > MAX_ENTRIES:
                raise UserError(f"it holds more than {MAX_ENTRIES} entries", where=archive, fix="Is it the right file?")
            path = work.joinpath(*entry_path(entry.name, archive).parts)
            folders.add(path.parent)
            if len(folders) > MAX_FOLDERS:
                raise _too_many_folders(archive)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                out = path.open("xb")
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise UserError(f"it holds {entry.name!r} twice", where=archive, fix="Fetch it again.") from error
            with out:
                while piece := entry.stream.read(_PIECE):
                    written += len(piece)
                    if written > limit:
                        raise _too_large(archive)
                    out.write(piece)
                    advance(len(piece))
    if not count:
        raise UserError("it holds no file", where=archive, fix="Fetch it again.")


def entry_path(name: str, archive: Path) -> PurePosixPath:
    """The name of an entry as a path below a folder. Errors: one that would lead out of it, is too long, or is kept for this program."""
    path = PurePosixPath(name)
    if len(name) > MAX_NAME or len(path.parts) > MAX_DEPTH:
        problem = f"it holds a name of {len(name)} characters and {len(path.parts)} parts, more than {MAX_NAME} and {MAX_DEPTH}"
        raise UserError(problem, where=archive, fix="Is it the right file?")
    if any(map(_KEPT.fullmatch, path.parts)):
        raise _kept_name(name, archive)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts or ":" in path.parts[0]:
        raise UserError(f"it holds {name!r}, which points outside its folder", where=archive, fix="Do not use this archive.")
    return path


def _entries(archive: Path, work: Path) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        yield from _zip_entries(archive, work)
    else:
        yield from _tar_entries(archive, work)


def _zip_entries(archive: Path, work: Path) -> Iterator[_Entry]:
    _check_listing(archive)
    folders = 0
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
            if info.filename.endswith("/"):  # is_dir() of Python 3.11 fails on a name of nothing
                folders += 1
                if folders > MAX_FOLDERS:
                    raise _too_many_folders(archive)
                entry_path(info.filename, archive)
                continue
            with zipped.open(info) as stream:
                yield _Entry(info.filename, stream)


def _check_listing(archive: Path) -> None:
    """Errors: a list of entries that would fill the memory, for Python reads it whole. Its size: APPNOTE.TXT 6.3.10, 4.3.14 and 4.3.16."""
    whole = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, whole - (1 << 16) - 100))
        tail = file.read()
    end, end_64 = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    if size == 0xFFFFFFFF:
        size = int.from_bytes(tail[end_64 + 40 : end_64 + 48], "little") if end_64 >= 0 else whole
    if size > MAX_LISTING:
        raise UserError(f"its list of entries claims {size} bytes", where=archive, fix="Is it the right file?")


class _Bounded:
    """What tarfile reads from. It reads a header whole, whatever length that claims, and skips what nobody asked for.

    Errors: a read or all of them beyond what a data set needs.
    """

    def __init__(self, stream: IO[bytes], limit: int, archive: Path) -> None:
        self.stream, self.limit, self.archive = stream, limit, archive
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= max(MAX_HEADER, _PIECE):
            raise UserError(f"it holds a header of {size} bytes", where=self.archive, fix="Do not use this archive.")
        if self.tell() + size > self.limit:
            raise _too_large(self.archive)
        return self.stream.read(size)


def _tar_entries(archive: Path, work: Path) -> Iterator[_Entry]:
    folders = 0
    with archive.open("rb") as file:
        start = file.read(6)
    opened: Any = next((how for magic, how in _COMPRESSED.items() if start.startswith(magic)), open)
    limit = max(2 * FREE_BYTES, 2 * MAX_RATIO * archive.stat().st_size)  # a header, too, for each file
    with opened(archive, "rb") as stream, _tar(_Bounded(stream, limit, archive), archive) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # they would fill the memory, and nobody asks for one again
            if member.isdir():
                folders += 1
                if folders > MAX_FOLDERS:
                    raise _too_many_folders(archive)
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


def _tar(stream: _Bounded, archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload]
    except tarfile.ReadError as error:
        raise UserError("it is neither a zip nor a tar archive", where=archive, fix="Delete it to fetch it again.") from error


def _too_large(archive: Path) -> UserError:
    return UserError(f"it unpacks to more than {MAX_RATIO} times its size", where=archive, fix="Is it the right file?")


def _too_many_folders(archive: Path) -> UserError:
    return UserError(f"it holds more than {MAX_FOLDERS} folders", where=archive, fix="Is it the right file?")


def _kept_name(name: str, archive: Path) -> UserError:
    return UserError(f"it holds {name!r}, a name that this program uses itself", where=archive, fix="Do not use this archive.")


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
