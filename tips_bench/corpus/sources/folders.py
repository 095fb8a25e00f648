"""Images in folders, each with its captions in a .json or .txt file of its name beside it, as in shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import Found, batched
from tips_bench.corpus.store import IMAGES, Step, as_said
from tips_bench.errors import UserError
from tips_bench.files import digest


class FolderSource:
    """All images below a folder, in the order of their paths. Errors: there are none."""

    read = "tips_bench.corpus.sources.folders:read"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower().removeprefix(".") in IMAGES and path.is_file())
        if not self.files:
            fix = f"Give a folder with images ({', '.join(IMAGES)}), shards (.tar) or Parquet files."
            raise UserError("no images, shards or Parquet files are here", where=folder, fix=fix)

    def identity(self) -> dict[str, Any]:
        """The names and sizes of the images, and of what lies beside them."""
        beside = [path.with_suffix(suffix) for path in self.files for suffix in (".json", ".txt")]
        known = [f"{path.relative_to(self.folder)} {path.stat().st_size}" for path in (*self.files, *beside) if path.is_file()]
        return {"kind": "folder", "files": digest(*known)}

    def steps(self) -> list[Step]:
        """None is known."""
        return []

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Paths below the folder."""
        for some in batched(self.files, size):
            yield {"folder": str(self.folder.absolute()), "names": [str(path.relative_to(self.folder)) for path in some]}


def read(folder: str, names: list[str]) -> Iterator[Found]:
    """The images of a part."""
    for name in names:
        path = Path(folder, name)
        try:
            said = as_said(_beside(path, ".json"), _beside(path, ".txt"))
            image = path.read_bytes()
        except OSError as error:
            yield Found(name, fault="not readable", detail=error.strerror or str(error))
            continue
        if said is None:
            yield Found(name, fault="broken captions")
        else:
            yield Found(name, image, said)


def _beside(path: Path, suffix: str) -> bytes | None:
    beside = path.with_suffix(suffix)
    return beside.read_bytes() if beside.is_file() else None
