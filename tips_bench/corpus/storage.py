"""Files of a corpus in object storage: small ones whole, shards as copies on a disk.

What is read and written is tried again (training/shard_files.py). A file here is a path of the file system, or a `UPath` of an address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.files import cannot_write, digest, sha256, temporary_folder
from tips_bench.training.shard_files import ShardFiles, is_remote, patiently, shard_path

COPIES = "corpus-copies"
MISSING = "missing"  # the version of a file that is not there
AT_ONCE = 32 << 20  # bytes of a read
VERSION = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "created", "oid", "sha")  # what storages tell versions of a file by


class Listed(NamedTuple):
    """A file of a folder. size: in bytes. version: another one when the file was changed."""

    size: int
    version: str


def place(name: str) -> Path:
    """A folder on a disk or under an address, as a user names it. Errors: the package that reads the address is not installed."""
    return shard_path(name.rstrip("/") if "://" in name else name)


def address(path: Path) -> str:
    """A path or an address that means the same to every process."""
    return str(path if is_remote(path) else path.absolute())


def read_if_there(path: Any) -> bytes | None:
    """The bytes of a file; None where there is none. Errors: storage that does not answer, or refuses."""
    if not is_remote(path):
        return path.read_bytes() if path.is_file() else None

    def read() -> bytes | None:
        with suppress(FileNotFoundError):
            return bytes(path.fs.cat_file(path.path))
        return None

    return patiently(path, read)


def listed(folder: Any) -> dict[str, Listed]:
    """The files and folders that lie right in a folder in object storage, as they are now; none where there is no such folder.

    Errors: as for `read_if_there`.
    """

    def look() -> list[dict[str, Any]]:
        folder.fs.invalidate_cache()
        with suppress(FileNotFoundError):
            return list(folder.fs.ls(folder.path, detail=True))
        return []

    found = {str(one["name"]).rstrip("/").rpartition("/")[2]: one for one in patiently(folder, look)}
    return {name: Listed(int(one.get("size") or 0), digest(*(one.get(key) for key in VERSION))) for name, one in sorted(found.items())}


def versions(files: Sequence[Path]) -> list[str]:
    """Of each file a text that changes when the file is changed, without reading it, or MISSING. Errors: as for `read_if_there`."""
    folders = {path.parent: listed(path.parent) for path in files if is_remote(path)}

    def version(path: Path) -> str:
        if is_remote(path):
            found = folders[path.parent].get(path.name)
            return MISSING if found is None else found.version
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file() else MISSING

    return [version(path) for path in files]


def put_bytes(path: Any, data: bytes) -> None:
    """Write a small file, whole or not at all. Errors: storage that does not answer, or refuses."""
    _put(path, lambda: path.fs.pipe_file(path.path, data))


def put_file(file: Path, path: Any) -> None:
    """Bring a file of a disk into object storage. Errors: as for `put_bytes`."""
    _put(path, lambda: path.fs.put_file(str(file), path.path))


def put_first(path: Any, data: bytes) -> None:
    """Write a small file unless there is one, as far as the storage can tell: whoever is late in the same moment may win.

    Errors: as for `put_bytes`.
    """

    def create() -> None:
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except (FileNotFoundError, PermissionError):
            raise
        except (OSError, NotImplementedError, TypeError, ValueError):  # it is there, or the storage knows no such mode
            if read_if_there(path) is None:
                path.fs.pipe_file(path.path, data)

    _put(path, create)


def _put(path: Any, write: Any) -> None:
    def once() -> None:
        try:
            write()
        except FileNotFoundError:
            folder = path.fs._parent(path.path)
            if "/" not in folder.strip("/"):  # a bucket: never made here
                raise
            path.fs.mkdir(folder, create_parents=False)  # servers of files have folders
            write()

    patiently(path, once, doing="written")


def remove(path: Any) -> None:
    """Remove a file or a folder of object storage, if it is there. Errors: as for `put_bytes`."""

    def gone() -> None:
        with suppress(FileNotFoundError):
            path.fs.rm(path.path, recursive=True)

    patiently(path, gone, doing="written")


def sha256_of(shard: Path) -> str:
    """Hex SHA-256 of a shard's bytes, which are all read. Errors: a shard that cannot be read."""
    if not is_remote(shard):
        return sha256(shard)
    found = hashlib.sha256()
    for data in _parts(shard):
        found.update(data)
    return found.hexdigest()


@contextmanager
def at_hand(shard: Path) -> Iterator[Path]:
    """A shard as a file on a disk: itself, or a copy of one in object storage, which is removed when the block ends.

    Errors: a shard that cannot be read, a disk that takes no copy; those of the block about the copy name the shard.
    """
    if not is_remote(shard):
        yield shard
        return
    with ExitStack() as stack:
        copy = _copied(shard, stack)
        try:
            yield copy
        except UserError as error:
            if error.where != str(copy):
                raise
            raise UserError(error.problem, where=shard, fix=error.fix) from error


def _copied(shard: Path, stack: ExitStack) -> Path:
    folder = cache_root() / COPIES / digest(shard)[:16]
    try:
        copy = stack.enter_context(temporary_folder(folder)) / shard.name
        with copy.open("wb") as out:
            for data in _parts(shard):
                out.write(data)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return copy


def _parts(shard: Path) -> Iterator[bytes]:
    size = patiently(shard, shard.stat).st_size
    with closing(ShardFiles()) as files:
        for start in range(0, size, AT_ONCE):
            yield files.read(shard, start, min(AT_ONCE, size - start))
