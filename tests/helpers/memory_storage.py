"""Object storage in the memory of the test, which may fail at any request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

LOCK = threading.Lock()  # a request is done at once, as by a server


class Storage(MemoryFileSystem):
    """Object storage of any protocol, in memory. A subclass has a `store` of its own."""

    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.split("://")[-1].strip("/")


class Faulty(Storage):
    """Object storage with one bucket, whose files are whole or not there. Each request is told to `fault`, before and after it is done."""

    protocol = "faulty"
    store: dict[str, Any] = {}
    requests: list[tuple[str, str]] = []
    fault: Callable[[str, str, str], None] = staticmethod(lambda when, verb, name: None)

    def _do(self, verb: str, path: str, request: Callable[[], Any]) -> Any:
        name = self._strip_protocol(path)
        type(self).fault("before", verb, name)
        self.requests.append((verb, name))
        with LOCK:
            found = request()
        type(self).fault("after", verb, name)
        return found

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if not self._strip_protocol(path).startswith("/bucket/"):
            raise FileNotFoundError(2, "the bucket does not exist", path)
        self._do("put", path, lambda: MemoryFileSystem.pipe_file(self, path, value, mode))

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        data = Path(lpath).read_bytes()
        self._do("put", rpath, lambda: MemoryFileSystem.pipe_file(self, rpath, data))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        return bytes(self._do("get", path, lambda: MemoryFileSystem.cat_file(self, path, start=start, end=end)))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return self._do("list", path, lambda: MemoryFileSystem.ls(self, path, detail))

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        if not self.exists(path):
            raise FileNotFoundError(path)
        self._do("remove", path, lambda: MemoryFileSystem.rm(self, path, recursive))

    def files(self, folder: str) -> dict[str, bytes]:
        """The files of a folder of the bucket by their names."""
        start = f"/bucket/{folder}/"
        return {name.removeprefix(start): file.getvalue() for name, file in self.store.items() if name.startswith(start)}
