"""Images in folders, with captions in a .json or .txt file of the same name beside each, as in shards, or in a table (metadata.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import LOOKED_AT, OTHERS, Found, Refuse, batched, check_caption, with_caption
from tips_bench.corpus.sources.metadata import metadata_in
from tips_bench.corpus.sources.splits import place_of
from tips_bench.corpus.store import IMAGES, Step, as_said
from tips_bench.errors import UserError
from tips_bench.files import digest, shown
from tips_bench.journal import warn
from tips_bench.wording import counted


class FolderSource:
    """All images below a folder, in the order of their paths, those of other formats too. caption: the key of captions in the .json files.

    Warns of folders with the names of several splits, and of images that a table leaves out. Errors: there are none; no sample has such a
    key; those of `metadata_in`.
    """

    read = "tips_bench.corpus.sources.folders:read"
    manner: dict[str, Any] = {}
    options: tuple[str, ...] = ("--caption-column",)

    def __init__(self, folder: Path, caption: str | None = None) -> None:
        self.folder, self.caption = folder, caption
        self.files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower().removeprefix(".") in (*IMAGES, *OTHERS) and path.is_file()
        )
        if not self.files:
            fix = f"Give a folder with images ({', '.join(IMAGES)}), shards (.tar) or Parquet files."
            raise UserError("no images, shards or Parquet files are here", where=folder, fix=fix)
        splits = {place_of(f"{path.relative_to(folder).parent.as_posix()}/_").split for path in self.files} - {None}
        if len(splits) > 1:
            said = f"{folder} holds folders of several splits ({', '.join(sorted(map(str, splits)))}), and all of their images are taken"
            warn(f"{said}. If one is meant, give its folder.")
        self.metadata = metadata_in(folder, caption)
        without = sum(str(path.relative_to(folder)) not in self.metadata.said for path in self.files)
        if without and self.metadata.files:
            warn(f"{folder}: {without} of {counted(len(self.files), 'image')} have no row in {self.metadata.files[0].name}")
        check_caption(read, self.parts(LOOKED_AT), caption, folder)

    def identity(self) -> dict[str, Any]:
        """The names and sizes of the images, of what lies beside them, and of the tables."""
        beside = [path.with_suffix(suffix) for path in self.files for suffix in (".json", ".txt")]
        known = [
            f"{path.relative_to(self.folder)} {path.stat().st_size}"
            for path in (*self.files, *beside, *self.metadata.files)
            if path.is_file()
        ]
        return {"kind": "folder", "files": digest(*known)} | ({"caption": self.caption} if self.caption else {})

    def steps(self) -> list[Step]:
        """None is known."""
        return []

    def parts(self, size: int) -> Iterator[dict[str, Any]]:
        """Paths below the folder, with what tables say of them."""
        for some in batched(self.files, size):
            names = [str(path.relative_to(self.folder)) for path in some]
            stated = {"stated": [self.metadata.said.get(name, {}) for name in names]} if self.metadata.files else {}
            yield {"folder": str(self.folder.absolute()), "names": names, "caption": self.caption} | stated


def read(refuse: Refuse, folder: str, names: list[str], caption: str | None, stated: list[dict[str, Any]] | None = None) -> Iterator[Found]:
    """The images of a part. stated: of each, what tables say; what lies beside an image counts before it."""
    for name, above in zip(names, stated or [{}] * len(names), strict=True):
        path, named = Path(folder, name), shown(name)
        try:
            said = as_said(_beside(path, ".json"), _beside(path, ".txt"))
            if said is None:
                yield Found(named, fault="broken captions")
                continue
            said = with_caption(above | said, caption)
            reason = refuse(said)
            yield Found(named, said=said, fault=reason) if reason else Found(named, path.read_bytes(), said)
        except OSError as error:
            yield Found(named, fault="not readable", detail=error.strerror or str(error))


def _beside(path: Path, suffix: str) -> bytes | None:
    beside = path.with_suffix(suffix)
    return beside.read_bytes() if beside.is_file() else None
